"""From files to anonymized files: one photo, many, and what is kept beside them."""
