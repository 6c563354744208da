"""What is anonymized, and by which methods: names that commands, annotations and renderers share."""

OBFUSCATIONS = ("blur", "pixelate", "solid")
METHODS = ("generate", *OBFUSCATIONS)
COVERS = ("face", "head")  # how much an obfuscation covers
