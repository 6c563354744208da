"""What options can be set to: the one place that commands, annotation files and the library share.

It imports nothing, so that a command answers a mistake before it loads anything.
"""

OBFUSCATIONS = ("blur", "pixelate", "solid")
METHODS = ("generate", *OBFUSCATIONS)
BODY_METHODS = (*METHODS, "silhouette", "background")
TARGETS = ("face", "head", "body", "plate")  # what is anonymized
EXTENTS = ("face", "head")  # how much an obfuscation covers
MOTIONS = ("face", "head", "none", "grid")  # what of a face's motion passes to the new one
IDENTITIES = ("auto", "prior", "bank", "builtin")  # where new persons come from
EXPRESSIONS = ("match", "none")
NEW_PERSONS = ("key", "entering")  # when a live face becomes another person
