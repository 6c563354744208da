"""What a face verifier is, and what the libraries that are made into one share."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.models import embedders


class Verifier(Protocol):
    """What an evaluation asks of a face verifier.

    Attributes:
      name: for reports.
      threshold: two found faces show the same person when the cosine of their embeddings is at least this.
    """

    name: str
    threshold: float

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u8[N, H, W, 3] RGB pictures of one face -> (f32[N, D] of length 1, bool[N] face found).

        Rows without a found face are zero and must not be compared.
        """
        ...


@contextlib.contextmanager
def needed(who: str, package: str) -> Iterator[None]:
    """Turns a failed import within into a UserError.

    Args:
      who: wants to import.
      package: what to give to pip.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"{who} needs a package ({error}): pip install {package}") from error


def stack(embeddings: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
    """What `Verifier.embed` returns, from one vector for each picture; None where no face was found."""
    found = np.array([e is not None for e in embeddings], bool)
    width = next((len(e) for e in embeddings if e is not None), 1)
    rows = [np.zeros(width, np.float32) if e is None else embedders.unit(e) for e in embeddings]
    return np.array(rows, np.float32).reshape(len(rows), width), found
