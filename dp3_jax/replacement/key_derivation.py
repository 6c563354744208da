"""The random part of a new face: who knows the secret can draw the same face again, nobody else can.

A face's key is HMAC-SHA256(secret, number of the face in its photo); nothing else goes into it, no name,
path, time or pixel. Without a given secret a fresh one is drawn for every photo and thrown away, so the faces
of two photos cannot be linked by their latents. HMAC: RFC 2104.
"""

import hashlib
import hmac
import os
import pathlib
import secrets

import numpy as np

from dp3_jax.common.errors import UserError
from dp3_jax.common.normal import quantiles

KEY_BYTES = 32


def new_master_key() -> bytes:
    """A new secret from the operating system's random source."""
    return secrets.token_bytes(KEY_BYTES)


def master_key_from_seed(seed: int) -> bytes:
    """The secret that --seed stands for. Anyone can try small numbers: for tests, not for privacy."""
    return hashlib.sha256(f"dp3 seed {int(seed)}".encode()).digest()


def read_master_key(path: str | os.PathLike) -> bytes:
    """The content of a secret file.

    Raises:
      UserError: the file cannot be read or holds less than 16 bytes.
    """
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the master key {path}: {error.strerror}") from error
    if len(content) < 16:
        raise UserError(
            f"the master key {path} has {len(content)} bytes, too few to be one; make it with "
            f"`head -c 32 /dev/urandom > {path}`"
        )
    return content


def track_key(master_key: bytes, number: int) -> bytes:
    """The key of face `number` (from 0) of a photo, 32 bytes; it does not give the secret away."""
    return hmac.digest(master_key, f"dp3 face {number}".encode(), "sha256")


def derived_key(key: bytes, what: str) -> bytes:
    """Another key, 32 bytes, that only who has `key` can make."""
    return hmac.digest(key, what.encode(), "sha256")


def latent(key: bytes, candidate: int, size: int) -> np.ndarray:
    """Candidate number `candidate` (from 0) of a face's latent, f32[size]; see `latents`."""
    return latents(key, candidate, 1, size)[0]


def latents(key: bytes, first: int, count: int, size: int) -> np.ndarray:
    """Candidates from number `first` (from 0) on of a face's latent, f32[count, size], standard normal.

    The bytes come from SHAKE-256 and become normal through the inverse of the distribution function: the
    same on every machine and with every version of NumPy.
    """
    names = (f"dp3 latent {number}".encode() for number in range(first, first + count))
    stream = b"".join(hashlib.shake_256(key + name).digest(4 * size) for name in names)
    numbers = np.frombuffer(stream, ">u4").astype(np.float64)
    return quantiles((numbers + 0.5) / 2**32).astype(np.float32).reshape(count, size)


def grain_generator(key: bytes) -> np.random.Generator:
    """Randomness for the grain on a face."""
    digest = hmac.digest(key, b"dp3 grain", "sha256")
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
