"""Anonymizing video: reading and writing, tracks, rendering that stays coherent over time."""
