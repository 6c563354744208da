"""Runs that need a GPU: what to carry to one, and one command to start there. See README.md beside this."""
