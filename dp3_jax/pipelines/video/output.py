"""How the result of a video is written: chosen before any work, put together when all frames are done."""

import dataclasses
import pathlib
from collections.abc import Sequence

from dp3_jax.media.names import is_pattern
from dp3_jax.media.video import clocks, copying, encoding, reading, sequence_writing, writing
from dp3_jax.media.video.interlacing import DEINTERLACED
from dp3_jax.pipelines.video.rendering_pass import RenderingPass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    """What of the source goes into the result besides its frames.

    Attributes:
      audio, subtitles: "copy" or "drop".
      metadata: the time and the camera's name, if the source says them.
    """

    audio: str = "copy"
    subtitles: str = "drop"
    metadata: bool = False


@dataclasses.dataclass(frozen=True)
class Output:
    """A video file or numbered pictures to be written.

    Attributes:
      info: of the source, with frames as they are written.
      encoding: how they are.
      kept: see Kept.
      mark: say that it holds generated faces, where it does.
    """

    info: reading.VideoInfo
    encoding: encoding.Encoding | sequence_writing.Pictures
    kept: Kept
    mark: bool

    def assemble(
        self,
        path: pathlib.Path,
        segments: Sequence[pathlib.Path],
        rendered: RenderingPass,
        *,
        generated: bool,
    ) -> tuple[str, ...]:
        """Writes the whole result to `path`; returns remarks for the user.

        Args:
          path: of the result.
          segments: of its frames.
          rendered: what is known of them.
          generated: whether any new face is in it.
        """
        if isinstance(self.encoding, sequence_writing.Pictures):
            sequence_writing.assemble(path, self.encoding, segments)
            return ()
        remarks = [*self.encoding.remarks, *([DEINTERLACED] if self.info.deinterlace else [])]
        is_sequence = is_pattern(self.info.path)
        told = rendered.damage or rendered.jumps or self.info.audio or is_sequence
        left_out = writing.assemble(
            path,
            self.info,
            self.encoding,
            segments,
            source=None if is_sequence else self.info.path,
            audio=self.kept.audio,
            subtitles=self.kept.subtitles,
            keep_metadata=self.kept.metadata,
            mark=self.mark and generated,
            jumps=rendered.jumps,
            # Where nothing else tells its length: up to which an undamaged file shows its last frame.
            until=None if told else self.info.duration_seconds,
            note=remarks.append,
        )
        left_out += (reading.CAPTIONS,) if rendered.captions else ()
        if rendered.jumps:
            remarks.append(clocks.restarted(len(rendered.jumps)))
        return (*(f"left out: {what}" for what in left_out), *remarks)


def choose_output(
    info: reading.VideoInfo,
    target: pathlib.Path,
    settings: encoding.EncoderSettings,
    kept: Kept,
    *,
    mark: bool,
    generates: bool,
) -> Output:
    """How the video of `info` is written to `target`.

    Args:
      info: of the source.
      target: a file, or a pattern of numbered pictures.
      settings: of the encoder.
      kept: see Kept.
      mark: say that it holds generated faces, where it does.
      generates: whether any are to be made; numbered pictures are marked one by one.

    Raises:
      UserError: it cannot be written so.
    """
    if is_pattern(target):
        pictures = sequence_writing.choose_pictures(
            info.path, target, settings, kept.metadata, mark and generates
        )
        return Output(info, pictures, kept, mark)
    chosen = encoding.choose_encoding(info, target.suffix, settings)
    info = encoding.as_written(info, chosen)
    if kept.audio == "copy":
        encoding.check_audio(info, chosen)
    if info.audio:
        copying.check(info.path, chosen.container, copying.Wanted(kept.audio == "copy"))
    return Output(info, chosen, kept, mark)
