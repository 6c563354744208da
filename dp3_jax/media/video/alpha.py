"""Which videos are transparent, and how that is decoded."""

from collections.abc import Callable

import av

from dp3_jax.common.errors import UserError
from dp3_jax.media.video.levels import has_alpha

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # decoders that know WebM's transparency


def is_transparent(stream: av.video.stream.VideoStream, frame: av.VideoFrame) -> bool:
    """Whether a stream can be transparent; a GIF always could be, so it must be so in its first frame."""
    if not has_alpha(frame.format.name):
        return False
    if frame.format.name != "pal8" and stream.codec_context.codec.canonical_name != "gif":
        return True
    pixels = frame.reformat(format="rgba").to_ndarray()
    return bool((pixels[..., 3] < 255).any())


def decoding(
    stream: av.video.stream.VideoStream,
) -> Callable[[av.Packet], list[av.VideoFrame]]:
    """What gives the frames of a stream's packets, with the transparency that WebM has beside its pictures.

    FFmpeg's own decoders of VP8 and VP9 pass over it.
    """
    name = _WITH_ALPHA.get(stream.codec_context.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return lambda packet: packet.decode()
    if name not in av.codecs_available:
        raise UserError(
            f"this installation of PyAV has no {name}, which the video's transparency needs"
        )
    return av.CodecContext.create(name, "r").decode
