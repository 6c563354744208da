"""The keys of tracks of which nobody knows yet how many there will be."""

from dp3_jax.replacement import master_key


class Keys(dict):
    """bytes[32] by number of track, made from one secret when they are asked for."""

    def __init__(self, secret: bytes):
        """Has none yet."""
        super().__init__()
        self._secret = secret

    def __missing__(self, number: int) -> bytes:
        return self.setdefault(number, master_key.face_key(self._secret, number))
