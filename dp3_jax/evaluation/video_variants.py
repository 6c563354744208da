"""The ways to anonymize a clip that `dp3 evaluate-video` compares, each made as `dp3 anonymize` makes it.

Each way is written as numbered pictures without loss, so what is measured is the method and no encoder. They
are not compressed, which would take longer than all else: 3 bytes for each pixel, frame and way.
"""

import dataclasses
import itertools
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from PIL import Image

from dp3_jax.common.choices import OBFUSCATIONS
from dp3_jax.common.errors import UserError
from dp3_jax.common.stages import Stage
from dp3_jax.detection.tracks import Tracking, to_face
from dp3_jax.evaluation.real_people import OnePerson
from dp3_jax.evaluation.video_clip import Faces, Render
from dp3_jax.media import image_sequences
from dp3_jax.media.video import reading
from dp3_jax.models.person_mask import PersonMask
from dp3_jax.pipelines.anonymize import Anonymizer
from dp3_jax.pipelines.video import job, track_file
from dp3_jax.replacement import fusing, key_derivation
from dp3_jax.replacement.classes import load_classifier
from dp3_jax.replacement.coherence import Coherence
from dp3_jax.replacement.face_actions import FaceAction, Settings
from dp3_jax.replacement.renderers import FusedRenderer

GENERATE = "new faces"
HEAD, NONE = "new faces, --motion head", "new faces, --motion none"
REAL_PERSON = "a real person pasted in"
PER_FRAME = "each frame alone"
KEYS = 6  # people that each track is given in turn
_MOTION_KEYS = 3  # of them, with less motion
_NAME = "%05d.bmp"
NAMES = (GENERATE, HEAD, NONE, REAL_PERSON, PER_FRAME, *OBFUSCATIONS)

Made = dict[str, list[pathlib.Path | Render]]
Progress = Callable[
    [str, int, int], None
]  # (what is made, frames since the last call, of how many)


@dataclasses.dataclass(frozen=True)
class Source:
    """The part of a clip that is compared.

    Attributes:
      folder: for what is made of it; the caller removes it.
      pattern: of its frames, written there without loss.
      frames: how many.
      rate: frames a second.
      tracks: a tracks file of these frames; None to find the faces anew.
    """

    folder: pathlib.Path
    pattern: pathlib.Path
    frames: int
    rate: Fraction
    tracks: pathlib.Path | None = None


def check_room(
    size: tuple[int, int],
    frames: int,
    folder: pathlib.Path,
    *,
    keys: int,
    ablations: bool,
    real: OnePerson | None,
    seed: int | None = None,
) -> None:
    """Makes sure that what `standard` writes finds its place.

    Args:
      size: px of a frame.
      frames: that are compared.
      folder: where they are written.
      keys, ablations, real, seed: as of `standard`.

    Raises:
      UserError: there is less room.
    """
    del seed
    ways = 1 + keys * (1 + (real is not None)) + 2 * min(keys, _MOTION_KEYS) + len(OBFUSCATIONS)
    ways += ablations * len(dataclasses.fields(Coherence))
    # One more, which is being put together.
    needed = (ways + 1) * frames * size[0] * size[1] * 3
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the {ways} clips that are compared take {needed / 1e9:.1f} GB in {folder.parent}, where "
            f"{free / 1e9:.1f} GB are free; compare fewer frames with --frames, or set TMPDIR"
        )


def write_source(
    path: str | pathlib.Path,
    folder: pathlib.Path,
    frames: int | None,
    rate: Fraction,
    first: int = 0,
) -> Source:
    """Writes frames of a clip as pictures into `folder`; all of them without `frames`.

    Args:
      path: of the clip, or the pattern of numbered pictures.
      folder: is there and empty.
      frames: at most so many.
      rate: frames a second, which smoothing over time does not ask for.
      first: number of the first one.

    Raises:
      UserError: it cannot be read, or the pictures cannot be written.
    """
    pattern, count = folder / "source" / _NAME, 0
    pattern.parent.mkdir()
    with reading.read_frames(path, first) as read:
        for frame in itertools.islice(read, frames):
            try:
                Image.fromarray(frame.image).save(image_sequences.path_of(pattern, count))
            except OSError as error:
                raise UserError(f"cannot write frames to {folder}: {error.strerror}") from error
            count += 1
    return Source(folder, pattern, count, rate)


def with_tracks(source: Source, tracking: Tracking) -> Source:
    """The source with known tracks, of which those of its frames are used."""
    path = source.folder / "source.tracks.json"
    track_file.write(path, shortened(tracking, source.frames), Settings(), {}, None)
    return dataclasses.replace(source, tracks=path)


def shortened(tracking: Tracking, frames: int) -> Tracking:
    """The tracks of the first `frames` frames."""
    kept = []
    for track in tracking.tracks:
        seen = tuple(one for one in track.observations if one.frame < frames)
        if seen:
            kept.append(dataclasses.replace(track, observations=seen))
    cuts = tuple(cut for cut in tracking.cuts if cut < frames)
    return dataclasses.replace(tracking, frames=frames, cuts=cuts, tracks=tuple(kept))


def _master_keys(seed: int | None) -> Iterator[bytes]:
    """Ever other ones; the same for the same seed."""
    if seed is None:
        return iter(key_derivation.new_master_key, None)
    return map(key_derivation.master_key_from_seed, itertools.count(seed))


class Workshop:
    """Makes variants of one source, one folder of pictures each."""

    def __init__(self, source: Source, progress: Progress, note: Callable[[str], None]):
        """`progress` is told of frames that are drawn, `note` of faces that had to be covered."""
        self._source, self._progress, self._note, self._made = source, progress, note, 0
        self._folder = pathlib.Path(tempfile.mkdtemp(dir=source.folder))

    def __call__(
        self,
        name: str,
        anonymizer: Anonymizer,
        master_key: bytes,
        motion: str = "face",
        use: Coherence | None = None,
    ) -> pathlib.Path:
        """The pattern of the pictures that `dp3 anonymize` makes of the source.

        Args:
          name: of the variant, for `progress`.
          anonymizer: who makes it.
          master_key: of the new faces.
          motion: as --motion.
          use: what is done against flicker; all if None.

        Raises:
          UserError: a file that it needs cannot be had, or the pictures cannot be written.
        """
        source, target = self._source, self._folder / f"{self._made:03d}" / _NAME
        self._made += 1
        video = job.VideoOptions(
            rate=source.rate, motion=motion, **({} if use is None else {"coherence": use})
        )
        request = job.Request(
            source=source.pattern,
            target=target,
            master_key=master_key,
            given_tracks=None if source.tracks is None else str(source.tracks),
            overrides=dataclasses.asdict(anonymizer.settings),
            mark=False,
            video=video,
        )

        def drawn(what: str, count: int, total: int | None) -> None:
            if what == Stage.RENDERING:
                self._progress(name, count, total or source.frames)

        face_results, _ = job.process(request, anonymizer, drawn)
        for face_result in face_results:
            if face_result.fell_back:
                self._note(f"{name}: a face was covered {face_result.reason}")
        return target


def frame_by_frame(
    anonymizer: Anonymizer, master_key: bytes | None = None, drawn: Iterator[bytes] | None = None
) -> Render:
    """Every frame as if it were a photo: nothing is known of the frame before.

    Args:
      anonymizer: who makes it.
      master_key: of the new faces of all frames.
      drawn: for each frame another secret instead, so that who the faces are is not remembered either.
    """

    def render(image: np.ndarray, faces: Faces, cut: bool) -> np.ndarray:
        del cut
        own = next(drawn) if master_key is None else master_key
        actions = [
            FaceAction(
                to_face(seen), key_derivation.track_key(own, track.number), track.keep, track.method
            )
            for track, seen in faces
        ]
        return anonymizer.render(image, actions).frame

    return render


def lending(anonymizer: Anonymizer, people: OnePerson) -> Anonymizer | None:
    """An anonymizer that gives real people's faces by the same networks; None where persons are not fused.

    Raises:
      UserError: a network cannot be fetched.
    """
    if not isinstance(anonymizer.renderer, FusedRenderer):
        return None
    other = Anonymizer(identity=anonymizer.identity, min_confidence=anonymizer.min_confidence)
    network, classifier = fusing.load_fusion(), load_classifier()
    other.opened = FusedRenderer(people, network, classifier.classify, heads=PersonMask()), ""
    return other


def standard(
    source: Source,
    anonymizer: Anonymizer,
    progress: Progress = lambda *_: None,
    note: Callable[[str], None] = lambda _: None,
    *,
    keys: int = KEYS,
    seed: int | None = None,
    ablations: bool = True,
    real: OnePerson | None = None,
) -> Made:
    """What `evaluate_video.evaluate` takes, each good for one clip.

    Args:
      source: of `write_source`.
      anonymizer: detector, and where new faces come from.
      progress, note: see `Workshop`.
      keys: that GENERATE and REAL_PERSON are made with in turn; HEAD and NONE with the first three.
      seed: of the first key; the others have the next ones. None for fresh secrets.
      ablations: also without each single switch of `Coherence`, and each frame alone with a new person.
      real: lends the faces of REAL_PERSON, which is left out without it.

    Returns:
      By name, for each key: GENERATE, the same with less motion, REAL_PERSON, PER_FRAME, the obfuscations
      and the ablations.
    """
    make, drawn = Workshop(source, progress, note), _master_keys(seed)
    own = [next(drawn) for _ in range(keys)]
    variants: Made = {GENERATE: [make(GENERATE, anonymizer, master_key) for master_key in own]}
    for name, motion in ((HEAD, "head"), (NONE, "none")):
        variants[name] = [make(name, anonymizer, one, motion) for one in own[:_MOTION_KEYS]]
    lender = None if real is None else lending(anonymizer, real)
    if lender is not None:
        variants[REAL_PERSON] = [make(REAL_PERSON, lender, master_key) for master_key in own]
    variants[PER_FRAME] = [frame_by_frame(anonymizer, own[0])]
    for method in OBFUSCATIONS:
        obfuscations = Anonymizer(method=method, min_confidence=anonymizer.min_confidence)
        variants[method] = [make(method, obfuscations, own[0])]
    if ablations:
        for field in dataclasses.fields(Coherence):
            name, value = field.name.replace("_", " "), field.default
            use = dataclasses.replace(Coherence(), **{field.name: not value})
            name = f"no {name}" if value else f"with {name}"
            variants[name] = [make(name, anonymizer, own[0], use=use)]
        variants[f"{PER_FRAME}, new persons"] = [frame_by_frame(anonymizer, drawn=drawn)]
    return variants
