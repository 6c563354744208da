"""Measures, as functions of arrays: of pictures, of identities, of steadiness over time."""
