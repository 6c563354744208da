"""Anonymizing one picture: which face is treated how, and what that takes, loaded once for many."""

import dataclasses
import functools
import os
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.detection import face_vector
from dp3_jax.detection.body_outline import Outline
from dp3_jax.detection.face_detection import MIN_CONFIDENCE, Detection, Detector
from dp3_jax.detection.kinds import BODY, FACE, HEAD, KINDS
from dp3_jax.detection.second_opinion import low_confidence_faces, mesh_at_hand
from dp3_jax.models.mesh import FaceMesh
from dp3_jax.pipelines.target_finding import TargetFinder
from dp3_jax.replacement import generation, key_derivation, obfuscation, smiles, targets
from dp3_jax.replacement.choice import open_renderer
from dp3_jax.replacement.face_actions import (
    Done,
    FaceAction,
    FaceResult,
    Settings,
    face_actions_of,
    obfuscation_of,
)
from dp3_jax.replacement.frame_renderer import FaceTask, render_frame
from dp3_jax.replacement.generation import FaceCheck, FaceRenderer, Generator
from dp3_jax.replacement.options import IdentityOptions
from dp3_jax.replacement.targets import Targets, parse

if TYPE_CHECKING:
    from PIL import Image


def anonymize_frame(
    frame: np.ndarray,
    actions: Sequence[FaceAction],
    settings: Settings,
    renderer: FaceRenderer | None = None,
    is_face: FaceCheck | None = None,
    *,
    outlines: Mapping[int, Outline] = types.MappingProxyType({}),
) -> tuple[np.ndarray, list[FaceResult]]:
    """Treats the faces of a frame as planned; a pure function of its arguments.

    No pixel outside the faces' regions changes, and with the method "generate" the result does not depend
    on any pixel inside them, but through the plans' vectors.

    Args:
      frame: u8[h, w, 3] RGB; not changed.
      actions: one for each face.
      settings: for all faces.
      renderer: makes the new faces; without one they are covered.
      is_face: u8[B, S, S, 3] canonical views -> bool[B], whether a new face is one; None: not checked.
      outlines: of bodies, by place in `actions`; of others their boxes, dilated, are taken.

    Returns:
      The new frame, and what was done with each face, in the order of `actions`. The frame itself is
      returned when there is nothing to do.
    """
    tasks = [
        _task(number, action, settings, frame.shape, outlines.get(number))
        for number, action in enumerate(actions)
    ]
    tasks = targets.joined(tasks, frame.shape)
    return render_frame(frame, tasks, renderer, is_face, candidates=settings.candidates)


def _task(
    number: int,
    action: FaceAction,
    settings: Settings,
    shape: Sequence[int],
    outline: Outline | None = None,
) -> FaceTask:
    """What is to be done with a target where it was found."""
    if action.keep:
        return FaceTask(action, action.reason, done=Done.KEPT)
    if action.face.kind is BODY:
        return targets.body_task(action, action.method or "generate", outline, shape)
    if action.face.kind is HEAD:
        return targets.head_task(number, action, settings, shape)
    method, reason = obfuscation_of(action, settings)
    if method:
        alignment = action.face.alignment()
        target = obfuscation.extent(
            alignment, action.face.box, settings.cover, shape, kind=action.face.kind
        )
        return FaceTask(
            action,
            reason,
            to_obfuscate=obfuscation.ObfuscationTask(method, alignment.scale, target),
        )
    return FaceTask(action, request=generation.request_for(number, action, shape))


def _makes(action: FaceAction, settings: Settings) -> bool:
    """Whether a plan asks for a new face, which may still be refused (see `obfuscation_of`)."""
    if action.face.kind not in (FACE, HEAD):
        return False
    return not action.keep and (action.method or settings.method) == "generate"


def with_vectors(
    frame: np.ndarray,
    actions: Sequence[FaceAction],
    settings: Settings,
    mesh: FaceMesh | None,
    *,
    expression: bool = True,
    smile: bool | None = None,
) -> list[FaceAction]:
    """The plans with what new faces are to show of the old ones, where they do not say it already.

    Args:
      frame: u8[h, w, 3], with the original faces.
      actions, settings: as of `anonymize_frame`.
      mesh: see `face_vector.measure`.
      expression: False leaves out all but the pose.
      smile: that is wished for in place of the mouth (`smiles.wished`).
    """
    done = []
    for action in actions:
        vector = action.vector
        if vector is None and _makes(action, settings):
            vector = face_vector.measure(frame, targets.as_face(action.face), mesh)
        if vector is not None and not expression:
            vector = vector.without_expression()
        if vector is not None:
            vector = smiles.wished(vector, smile)
        done.append(dataclasses.replace(action, vector=vector))
    return done


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """An anonymized frame.

    Attributes:
      frame: u8[h, w, 3].
      face_results: of all faces, in their order.
    """

    frame: np.ndarray
    face_results: list[FaceResult]


class Anonymizer:
    """Detector, generator and settings, loaded when first needed and kept for many pictures."""

    def __init__(
        self,
        *,
        method: str = "generate",
        cover: str = "face",
        candidates: int = 1,
        min_confidence: float = MIN_CONFIDENCE,
        weights: str | os.PathLike | None = None,
        generator: Generator | None = None,
        identity: IdentityOptions | str = "auto",
        face_check: bool | None = None,
        targets: Sequence[str] | Targets = ("face",),
    ):
        """Checks the settings; loads nothing yet.

        Args:
          method: for all targets that have it, see `targets.Targets`; cover, candidates: see Settings.
          min_confidence: of detected faces.
          weights: file of a generator; None for the one in the package.
          generator: a loaded one instead.
          identity: where new faces come from; "auto" means the generator where one is given.
          face_check: whether the detector must find every new face to be one. True fetches it for that;
            False: a new face must only not be a flat patch; None: True where the detector is on this
            machine, so that with given faces all works without a network. No call decides it for others.
          targets: what is anonymized: "face", "head", "body", "plate", or one of them with a method of its
            own, "body=silhouette".

        Raises:
          UserError: a value out of range.
        """
        if not isinstance(targets, Targets):
            targets = parse([targets] if isinstance(targets, str) else targets, method)
        self.targets = targets
        if isinstance(identity, str):
            identity = IdentityOptions(source=identity)
        self.identity = identity
        of_faces = targets.method_of(KINDS[targets.face or "face"])
        self.settings = Settings(method=of_faces, cover=cover, candidates=candidates)
        self._min_confidence = min_confidence
        self._weights = weights
        self._given = generator
        self._face_check = face_check

    @functools.cached_property
    def opened(self) -> tuple[FaceRenderer, str]:
        """What draws new faces, decided once; and why it is not what "auto" prefers, else "".

        Raises:
          UserError: a named source cannot be had.
        """
        given = self._given is not None
        return open_renderer(self.identity, lambda: self.generator, self._weights, given=given)

    @property
    def decided(self) -> tuple[str, str]:
        """Where new faces come from, "" before any is made; and the reason as `opened`."""
        if "opened" not in self.__dict__:
            return "", ""
        return self.opened[0].identity, self.opened[1]

    @property
    def renderer(self) -> FaceRenderer:
        """What draws new faces; raises as `opened`."""
        return self.opened[0]

    @property
    def min_confidence(self) -> float:
        """Of detected faces."""
        return self._min_confidence

    def parts(self) -> tuple[FaceRenderer, FaceCheck | None]:
        """What draws new faces in videos, and the verdict on them."""
        return self.renderer, self.is_face

    @functools.cached_property
    def detector(self) -> Detector:
        """Raises UserError when its network cannot be had."""
        return Detector(self._min_confidence)

    @functools.cached_property
    def generator(self) -> Generator:
        """Raises UserError when its weights cannot be read."""
        if self._given is not None:
            return self._given
        from dp3_jax.replacement.generator import load_anonymizer  # loads JAX

        return load_anonymizer(self._weights)

    @property
    def is_face(self) -> FaceCheck | None:
        """The detector's verdict on new faces, where they are checked (see `face_check`).

        Raises:
          UserError: it is asked for and cannot be had.
        """
        asked = self._face_check
        if asked is False or (asked is None and not assets.is_cached("yunet")):
            return None
        return self._checked

    @functools.cached_property
    def _checked(self) -> FaceCheck | None:
        try:
            return self.detector.are_faces
        except UserError:
            if self._face_check:
                raise
            return None  # the copy on this machine was damaged

    @functools.cached_property
    def _mesh(self) -> FaceMesh | None:
        """Gives the second opinion on detections, and the vectors of large faces."""
        _ = self.opened  # which may have to fetch it
        return mesh_at_hand()

    @functools.cached_property
    def finder(self) -> TargetFinder:
        """Finds all targets but faces; raises UserError when a network for it cannot be had."""
        return TargetFinder(self.targets.names)

    def find(self, frame: np.ndarray) -> list[Detection]:
        """The targets in u8[h, w, 3]; faces that are not sure enough for a new one are called unsure."""
        if self.targets.only_faces:
            return self._faces(frame)
        faces = self._faces(frame) if self.targets.face else []
        if self.targets.face == "head":
            faces = [dataclasses.replace(face, kind=HEAD) for face in faces]
        return [*faces, *self.finder(frame)]

    def actions_for(self, found: Sequence[Detection], master_key: bytes) -> list[FaceAction]:
        """What is to be done with what was found; faces have keys by their order, then all else."""
        return [
            action
            if action.face.kind is FACE
            else dataclasses.replace(action, method=self.targets.method_of(action.face.kind))
            for action in face_actions_of(found, master_key)
        ]

    def _faces(self, frame: np.ndarray) -> list[Detection]:
        faces = self.detector.detect(frame)
        if self.settings.method != "generate":
            return faces  # all are covered
        return low_confidence_faces(frame, faces, self._mesh)

    def render(
        self, frame: np.ndarray, actions: Sequence[FaceAction], settings: Settings | None = None
    ) -> Result:
        """Treats the faces of u8[h, w, 3] as planned, with the given settings or its own."""
        settings = settings or self.settings
        outlines = self._outlines(frame, actions)
        if not any(_makes(action, settings) for action in actions):
            return Result(*anonymize_frame(frame, actions, settings, outlines=outlines))
        actions = self.measured(frame, actions, settings)
        parts = self.renderer, self.is_face
        return Result(*anonymize_frame(frame, actions, settings, *parts, outlines=outlines))

    def _outlines(self, frame: np.ndarray, actions: Sequence[FaceAction]) -> dict[int, Outline]:
        """The outlines of the bodies in u8[h, w, 3], by place in `actions`."""
        return {
            number: self.finder.outline(frame, action.face.box)
            for number, action in enumerate(actions)
            if action.face.kind is BODY and not action.keep
        }

    def measured(
        self, frame: np.ndarray, actions: Sequence[FaceAction], settings: Settings
    ) -> Sequence[FaceAction]:
        """The plans with all that new faces take from those in u8[h, w, 3]; the masks depend on it too."""
        if (
            not any(_makes(action, settings) for action in actions)
            or not self.renderer.takes_vector
        ):
            return actions
        expression = self.identity.expression == "match"
        smile = self.identity.wishes.smile
        return with_vectors(
            frame, actions, settings, self._mesh, expression=expression, smile=smile
        )

    def __call__(
        self,
        frame: np.ndarray,
        faces: Sequence[Detection] | None = None,
        master_key: bytes | None = None,
    ) -> Result:
        """Anonymizes a frame.

        Args:
          frame: u8[h, w, 3] RGB.
          faces: where they are; None to detect them.
          master_key: what the new faces are drawn from; None for a fresh one that is thrown away.
        """
        if faces is None:
            faces = self.find(frame)
        key = master_key or key_derivation.new_master_key()
        return self.render(frame, self.actions_for(faces, key))


@overload
def anonymize(
    image: np.ndarray,
    *,
    faces: Sequence[Detection] | None = None,
    seed: int | None = None,
    **settings: Any,
) -> np.ndarray: ...
@overload
def anonymize(
    image: "Image.Image",
    *,
    faces: Sequence[Detection] | None = None,
    seed: int | None = None,
    **settings: Any,
) -> "Image.Image": ...


def anonymize(
    image: Any,
    *,
    faces: Sequence[Detection] | None = None,
    seed: int | None = None,
    **settings: Any,
) -> Any:
    """Replaces every face in a picture, and whatever else `targets` names.

    Args:
      image: u8[h, w, 3] RGB, or a Pillow image.
      faces: where the faces are; None to detect them.
      seed: same seed, same faces, for tests; without one they come from a key that is thrown away.
      **settings: of `Anonymizer`, which is faster for many pictures.

    Returns:
      The new picture, of the same kind as `image` (Pillow: mode RGB).

    Raises:
      UserError: a setting out of range, or a model that cannot be loaded.
    """
    frame = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
    master_key = None if seed is None else key_derivation.master_key_from_seed(seed)
    result = Anonymizer(**settings)(frame, faces, master_key).frame
    if hasattr(image, "convert"):
        from PIL import Image

        return Image.fromarray(result)
    return result
