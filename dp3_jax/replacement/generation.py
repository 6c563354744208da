"""New faces for a background-filled frame: in which order, which candidate, and what counts as a face."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from dp3_jax.replacement import key_derivation, surroundings
from dp3_jax.replacement.face_actions import Done, FaceAction, FaceResult
from dp3_jax.replacement.face_memory import FaceMemory
from dp3_jax.vision import blending, geometry
from dp3_jax.vision.masks import SIZE

RETRIES = 3  # further latents tried when none of the candidates is a face
_AWAITED = "its person is being made"  # why a face is blurred for a moment
_FLAT = 4.0  # levels of standard deviation under the mask: less is no face but a patch

FaceCheck = Callable[[np.ndarray], np.ndarray]  # u8[B, S, S, 3] canonical views -> bool[B]


class Generator(Protocol):
    """What is needed of a generator; see `generator.FaceGenerator`."""

    @property
    def latent_dim(self) -> int:
        """Z, numbers in a latent."""
        ...

    @property
    def size(self) -> int:
        """Side of the pictures in px."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the same latent would give another face."""
        ...

    def generate(self, image: np.ndarray, mask: np.ndarray, z: np.ndarray) -> np.ndarray:
        """u8[B, S, S, 3] views, f32[B, S, S, 1] masks, f32[B, Z] latents -> u8[B, S, S, 3]."""
        ...


class FaceRenderer(Protocol):
    """What draws new faces and puts them into the frame; see `replacement.renderers`.

    It sees the background-filled frame, the mask, the five points and the face's vector, and no pixel of
    the face.

    Attributes:
      identity: where persons come from: "builtin", "prior" or "bank".
      fingerprint: changes when the same key would give another face.
      takes_vector: whether the face's vector has a part in the new face.
    """

    identity: str
    fingerprint: str
    takes_vector: bool

    def warm(self, count: int) -> None:
        """Gets ready for so many faces at once."""
        ...

    def draw(
        self,
        batch: Sequence["InpaintRequest"],
        views: Sequence[np.ndarray],
        numbers: Sequence[Sequence[int]],
    ) -> list[list["RenderedFace | None"]]:
        """New faces.

        Args:
          batch: B faces to be made.
          views: u8[S, S, 3] of the background-filled frame for each.
          numbers: of the candidates to draw, for each.

        Returns:
          One for each number of each face; None where that candidate cannot be drawn.
        """
        ...

    def remember(self, request: "InpaintRequest", view: np.ndarray, face: "RenderedFace") -> None:
        """Keeps in the job's memory what `transfer_motion_to` needs of a face that was chosen for a view."""
        ...

    def prepare(self, requests: Sequence["InpaintRequest"]) -> None:
        """Begins what of a frame's faces does not depend on the background fill; never needed."""
        ...

    def awaits(self, request: "InpaintRequest") -> bool:
        """Whether the person of a remembered face is still being made beside; it is blurred meanwhile."""
        ...

    def transfer_motion_to(
        self, batch: Sequence["InpaintRequest"], views: Sequence[np.ndarray]
    ) -> list["RenderedFace | None"]:
        """The faces that were chosen in earlier frames, as they are in this one.

        Args:
          batch: B faces with memories whose candidates are settled.
          views: u8[S, S, 3] of the background-filled frame for each.

        Returns:
          None where the face cannot be drawn now.
        """
        ...

    def paint(
        self,
        background_fill: np.ndarray,
        request: "InpaintRequest",
        view: np.ndarray,
        face: "RenderedFace",
    ) -> np.ndarray:
        """The face where it belongs, u8[h, w, 3] for the part of the frame that `request.own` describes."""
        ...


@dataclasses.dataclass(eq=False)
class InpaintRequest:
    """A face on its way to being generated.

    Attributes:
      number: of the face in its frame.
      action: what is to be done.
      alignment: of the face.
      mask: f32[S, S, 1], the masked region.
      target: all pixels of the frame that are hidden.
      own: the part of them that the new face is put into.
      memory: of the face in earlier frames; None for photos.
      batch: in which round it is made.
      exposure: of the frame, where it is not the usual one.
    """

    number: int
    action: FaceAction
    alignment: geometry.Alignment
    mask: np.ndarray
    target: geometry.Region
    own: geometry.Region
    memory: FaceMemory | None = None
    batch: int = 0
    exposure: surroundings.Exposure | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class RenderedFace:
    """A new face.

    Attributes:
      candidate: which of those that its key gives.
      view: u8[S, S, 3], the canonical view with it.
      person: tells persons of one identity source apart; None where there is none.
      layers: what its renderer paints it from, if more than the view.
      score: how right it looks, higher is better; None: nobody says.
    """

    candidate: int
    view: np.ndarray
    person: str | None = None
    layers: Any = None
    score: float | None = None


def request_for(number: int, action: FaceAction, shape: Sequence[int]) -> InpaintRequest:
    """A face to be made where it was found, in a frame of `shape` that stands by itself."""
    alignment = action.face.alignment()
    mask = action.face.kind.mask(alignment, action.face.box, yaw=action.yaw)
    target = geometry.region(alignment, mask, shape)
    return InpaintRequest(number, action, alignment, mask, target, target)


def batches(requests: Sequence[InpaintRequest]) -> list[list[InpaintRequest]]:
    """Jobs in rounds: small faces (further away) before large ones, each seeing the ones before it.

    A face whose surroundings show another face waits until that one has been replaced, so the new faces
    fit one another; all faces of a round go through the generator together.
    """
    ordered = sorted(requests, key=lambda request: (-request.alignment.scale, request.number))
    parts: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for i, request in enumerate(ordered):
        corners = request.alignment.invert(np.array([(0, 0), (0, SIZE), (SIZE, 0), (SIZE, SIZE)]))
        seen = (*corners.min(0), *corners.max(0))
        height, width = request.target.inside.shape
        own = (
            request.target.left,
            request.target.top,
            request.target.left + width,
            request.target.top + height,
        )
        for j in range(i):
            their_seen, their_own = parts[j]
            if _overlap(seen, their_own) or _overlap(their_seen, own):
                request.batch = max(request.batch, ordered[j].batch + 1)
        parts.append((seen, own))
    rounds: list[list[InpaintRequest]] = [
        [] for _ in range(max((request.batch for request in ordered), default=-1) + 1)
    ]
    for request in ordered:
        rounds[request.batch].append(request)
    return rounds


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two rectangles (left, top, right, bottom) overlap."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def failed(request: InpaintRequest, error: Exception) -> FaceResult:
    """A face that stays covered because of an error."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return FaceResult(request.action, Done.COVERED, reason=f"generation failed: {reason}")


def no_face(request: InpaintRequest) -> FaceResult:
    """A face that stays covered because there is none to put in its place."""
    return FaceResult(request.action, Done.COVERED, reason="no face came out of the generator")


def awaited(request: InpaintRequest) -> FaceResult:
    """A face that is obfuscated until its person has been made."""
    return FaceResult(request.action, Done.BLURRED, reason=_AWAITED, awaited=True)


def choose_candidates(
    batch: Sequence[InpaintRequest],
    views: Sequence[np.ndarray],
    candidates: int,
    renderer: FaceRenderer,
    is_face: FaceCheck | None,
) -> list[RenderedFace | None]:
    """The new face for each view, or None where none of them is a face.

    The best of the candidates by how it continues its surroundings; when none is a face, the best of
    RETRIES more. A plan with a settled candidate gets that one, computed in the same batch as before.
    """
    found: list[RenderedFace | None] = [None] * len(views)
    open_ones = list(range(len(views)))
    for numbers in (range(candidates), range(candidates, candidates + RETRIES)):
        made = renderer.draw(
            [batch[i] for i in open_ones],
            [views[i] for i in open_ones],
            [_settled(batch[i], numbers, renderer) for i in open_ones],
        )
        still_open = []
        for i, faces in zip(open_ones, made, strict=True):
            found[i] = _best(batch[i], views[i], [f for f in faces if f is not None], is_face)
            if found[i] is None:
                still_open.append(i)
        open_ones = still_open
        if not open_ones:
            break
    return found


def _settled(request: InpaintRequest, numbers: range, renderer: FaceRenderer) -> Sequence[int]:
    """The candidates to draw: of a settled face that alone, where none depends on those drawn with it."""
    settled = request.action.candidate
    if settled is None or not renderer.takes_vector:
        return numbers
    return [settled] if settled in numbers else []


def _best(
    request: InpaintRequest,
    view: np.ndarray,
    faces: Sequence[RenderedFace],
    is_face: FaceCheck | None,
) -> RenderedFace | None:
    """The one that looks most right or continues its surroundings best, of those that may be shown."""
    if request.action.candidate is not None:
        faces = [face for face in faces if face.candidate == request.action.candidate]
    else:
        faces = [face for face in faces if not is_flat(request, face.view)]
        if is_face is not None and faces:
            good = is_face(np.stack([face.view for face in faces]))
            faces = [face for face, ok in zip(faces, good, strict=True) if ok]
    if faces and all(face.score is not None for face in faces):
        return max(faces, key=lambda face: face.score)
    return min(
        faces,
        key=lambda face: blending.boundary_error(view, face.view, request.mask),
        default=None,
    )


def is_flat(request: InpaintRequest, face: np.ndarray) -> bool:
    """Whether a new face u8[S, S, 3] is no face but a patch."""
    return float(face[request.mask[..., 0] > 0].std()) <= _FLAT


def generate(
    batch: Sequence[InpaintRequest],
    views: Sequence[np.ndarray],
    numbers: Sequence[Sequence[int]],
    generator: Generator,
) -> np.ndarray:
    """u8[B, N, S, S, 3]: N new faces for each of B views, in one call.

    Args:
      batch, views: B faces to be made and their views u8[S, S, 3].
      numbers: N numbers of latents for each face.
      generator: makes them.

    Raises:
      ValueError: what came out is no pictures of the right size.
    """
    count = len(numbers[0])
    z = [
        key_derivation.latent(request.action.key, n, generator.latent_dim)
        for request, own in zip(batch, numbers, strict=True)
        for n in own
    ]
    images = np.repeat(np.stack(views), count, 0)
    masks = np.repeat(np.stack([request.mask for request in batch]), count, 0)
    made = np.asarray(generator.generate(images, masks, np.stack(z)))
    if made.shape != images.shape or made.dtype != np.uint8:
        raise ValueError(f"the generator gave {made.dtype}{made.shape}")
    return made.reshape(len(views), count, *made.shape[1:])
