"""Reading members of a zip file from many threads at once, in memory that does not grow."""

import os
import pathlib
import struct
import zipfile
import zlib

from dp3_jax.common.errors import UserError
from dp3_jax.data.decode import UnreadableImage

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # Signature, ..., lengths of the name and extra fields.


class ZipReader:
    """Random access to a zip file's members; `read` may be called from any thread.

    The standard library's reader is built on one file position and one lock; this one keeps where
    each member starts and uses positioned reads.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads the archive's directory.

        Raises:
          UserError: not a zip file, or a damaged one.
        """
        self.path = pathlib.Path(path)
        try:
            with zipfile.ZipFile(self.path) as opened:
                members = [info for info in opened.infolist() if not info.is_dir()]
            self._file = os.open(self.path, os.O_RDONLY)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"cannot read {self.path}: {error}; get the file again") from error
        self._members = {
            info.filename: (info.header_offset, info.compress_size, info.compress_type, info.CRC)
            for info in members
        }

    @property
    def names(self) -> list[str]:
        """Names of the members that are files, in the archive's order."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """Returns a member's content.

        Raises:
          UnreadableImage: damaged, or compressed in a way other than deflate.
        """
        offset, size, method, checksum = self._members[name]
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableImage("compressed in an unusual way")
        try:
            header = os.pread(self._file, _LOCAL_HEADER.size, offset)
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start = offset + _LOCAL_HEADER.size + name_length + extra_length
            content = os.pread(self._file, size, start)
            if method == zipfile.ZIP_DEFLATED:
                content = zlib.decompress(content, -zlib.MAX_WBITS)
        except (OSError, struct.error, zlib.error) as error:
            raise UnreadableImage("damaged in the zip file") from error
        if signature != b"PK\x03\x04" or zlib.crc32(content) != checksum:
            raise UnreadableImage("damaged in the zip file")
        return content

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)
