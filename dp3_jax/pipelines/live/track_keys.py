"""The keys of tracks of which nobody knows yet how many there will be."""

from dp3_jax.replacement import key_derivation


class Keys(dict):
    """bytes[32] by number of track, made from one secret when they are asked for."""

    def __init__(self, master_key: bytes):
        """Has none yet."""
        super().__init__()
        self._master_key = master_key

    def __missing__(self, number: int) -> bytes:
        return self.setdefault(number, key_derivation.track_key(self._master_key, number))
