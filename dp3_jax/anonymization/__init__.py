"""Anonymizing photos: detection, placement, generation, and the way back into the picture."""
