"""New faces: who they are, how they look, how they come into a photo."""
