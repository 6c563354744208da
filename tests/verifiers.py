"""A face verifier for tests, which needs no download."""

import numpy as np


class Colours:
    """A verifier of coloured squares: the embedding is the mean colour, black is no face."""

    name = "colours"
    threshold = 0.9

    def embed(self, images):
        colours = images.mean((1, 2)).astype(np.float32)
        found = colours.any(1)
        return colours / np.maximum(np.linalg.norm(colours, axis=1, keepdims=True), 1e-6), found
