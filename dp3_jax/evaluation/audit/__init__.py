"""`dp3 audit`: is anybody still seen or recognised in pictures that were anonymized, by whatever tool?"""
