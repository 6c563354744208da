"""Pictures of persons that turn, speak and blink: renderings on a grid of pose and mouth, warped between.

What is shown is a mean of up to five renderings of one person (`pose_lattice`), each warped to one mesh that
has exactly the pose and mouth that are asked for (`face_shape`, `mesh_warp`); then lids close and irises move
(`eyelids`). So a track needs some renderings, and each of its frames some milliseconds.
"""

import functools
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from dp3_jax.detection.face_vector import FaceVector
from dp3_jax.models.mesh import Expression
from dp3_jax.replacement import eyelids, hair, node_pictures, pose_lattice
from dp3_jax.replacement.identities import Classes, IdentitySource, Rendering
from dp3_jax.replacement.node_pictures import NodePicture
from dp3_jax.replacement.pose_lattice import Appearance, Lattice, Node

MAX_BYTES = 64 << 20  # of pictures that are kept: about 300 of 256 px
_COARSE_BELOW = 256  # px
_MAX_ASKED = 64  # nodes that the background is to render, besides persons' first ones
_MAX_LAST = 4 << 20  # bytes of renderings that are kept, for faces that rest and those like them
# Of the time that a node took, between nodes that the background renders: frames, which do without, need it.
_PAUSE = 3.0
_PAUSE_OF_PERSONS = 1.0  # the same after a person's first one while others wait for theirs
_FADE = 6  # calls over which a picture from the background comes in


class _Person(NamedTuple):
    """Whose grid it is, at which size, and which grid."""

    key: bytes
    classes: Classes
    size: int
    lattice: Lattice

    @classmethod
    def of(
        cls, key: bytes, classes: Classes, size: int, smile: bool | None, *, wait: bool
    ) -> "_Person":
        """Of somebody whose pictures are waited for, or not."""
        lattice = pose_lattice.FINE if wait else pose_lattice.LIVE
        if size < _COARSE_BELOW:
            lattice = pose_lattice.COARSE
        return cls(key, classes, size, lattice.smiling(smile))


_Corners = list[tuple[NodePicture, float]]


class PoseGrid:
    """See the top of this file. Calls may come from one thread at a time."""

    def __init__(
        self,
        source: IdentitySource,
        *,
        max_bytes: int = MAX_BYTES,
        smile: bool | None = None,
        heads: hair.Heads | None = None,
    ):
        """Renders nothing yet.

        Args:
          source: of the persons. While the grid is used with `wait=False`, nobody else may call it.
          max_bytes: of pictures that are kept, over all persons; those that were not used for longest go.
            One look's pictures are kept even if they are more.
          smile: that is wished for of all persons; the vectors have it too (`smiles.wished`).
          heads: tells the head in a rendering (`Rendering.head`); without it faces end at their outlines.
        """
        self._heads = heads
        self._smile = smile
        self._max_bytes = max_bytes
        self._render = functools.partial(source.render, mended=False)
        self._kept: OrderedDict[tuple[_Person, Node], NodePicture | None] = OrderedDict()
        self._bytes = 0
        self._last: OrderedDict[tuple[_Person, FaceVector], Rendering] = OrderedDict()
        self._last_bytes = 0
        self._turn = threading.Lock()  # to look at and change what is kept
        self._rendering = threading.Lock()  # to call the source
        self._asked: OrderedDict[tuple[_Person, Node], None] = OrderedDict()
        self._fading: dict[tuple[_Person, Node], int] = {}
        # The background is not to pause before a person's first picture.
        self._hurry = threading.Event()
        self._closed = threading.Event()
        self._worker: threading.Thread | None = None
        self._failure: Exception | None = None

    def rendering(
        self, key: bytes, classes: Classes, vector: FaceVector, size: int, *, wait: bool = True
    ) -> Rendering:
        """The person of a key and classes with a look.

        Continuous in the vector; a pure function of its arguments, whatever was asked before, if waited for.

        Args:
          key: 32 bytes.
          classes: of the track.
          vector: what the face is to show. Pose and mouth are clamped to what can be drawn. Eyes are shares
            of what is usual; None leaves them open. So does a gaze leave the irises where they are.
          size: px, one of `identities.SIZES` or 192. Below 256 px faces turn and speak in coarser steps.
          wait: not to return before all that the look is made of is rendered. Otherwise what is missing is
            rendered in the background, and shown by the nearest pictures that are there until it comes; only
            a person's first one is always waited for.

        Raises:
          ValueError: the person shows no face in any pose; with another key one will.
          UserError: a file that the source needs is missing or was changed.
        """
        person = _Person.of(key, classes, size, self._smile, wait=wait)
        if wait and (last := self._last.get((person, vector))) is not None:
            self._last.move_to_end((person, vector))
            return last
        appearance, clamped = pose_lattice.clamped_appearance(vector.pose, vector.expression)
        wanted = person.lattice.corners(appearance)
        if wait:
            corners = [(self._drawable(person, node), weight) for node, weight in wanted]
        else:
            corners = self._ready(person, wanted)
        mesh = node_pictures.mesh_of(corners, appearance)
        image, head = _apart(node_pictures.blended(corners, mesh))
        shares = tuple(1.0 if eye is None else eye for eye in (vector.left_eye, vector.right_eye))
        gaze = vector.gaze_x or 0.0, vector.gaze_y or 0.0
        image, mesh = eyelids.moved(image, mesh, shares, gaze)
        who = corners[0][0].person
        made = Rendering.of_mesh(image, mesh, clamped=clamped, person=who, head=head)
        if wait:
            self._last[person, vector] = made
            self._last_bytes += made.image.nbytes
            while self._last_bytes > _MAX_LAST and len(self._last) > 1:
                self._last_bytes -= self._last.popitem(last=False)[1].image.nbytes
        return made

    def begin(self, key: bytes, classes: Classes, size: int) -> bool:
        """Whether a person can be shown without waiting for the first picture; if not, it is asked for.

        Args:
          key, classes, size: as of `rendering`.

        Raises:
          Exception: whatever failed in the background.
        """
        first = self._first(key, classes, size)
        with self._turn:
            if first in self._kept:
                return True
            self._raise_failure()
        self._ask([first])
        return False

    def awaits(self, key: bytes, classes: Classes, size: int) -> bool:
        """Whether the background is still to make a person's first picture."""
        with self._turn:
            return self._first(key, classes, size) in self._asked

    def finish(self) -> None:
        """Waits until the background has rendered what it was asked for."""
        with self._turn:
            worker = self._worker
        if worker is not None:
            worker.join()

    def close(self) -> None:
        """Asks nothing more of the background, and waits for what it is at."""
        with self._turn:
            self._asked.clear()
            self._closed.set()
            self._hurry.set()
        self.finish()

    @property
    def nbytes(self) -> int:
        """What is kept."""
        return self._bytes

    def _drawable(self, person: _Person, node: Node) -> NodePicture:
        """The picture of a node, or of the nearest one that shows a face."""
        picture = self._picture(person, node)
        if picture is not None:
            return picture
        for one in person.lattice.nearby(node):
            picture = self._picture(person, one)
            if picture is not None:
                return picture
        raise ValueError("a key shows no face in any pose")

    def _picture(self, person: _Person, node: Node) -> NodePicture | None:
        """A node's picture, kept or made; None where it shows no face."""
        with self._turn:
            if (person, node) in self._kept:
                self._kept.move_to_end((person, node))
                return self._kept[person, node]
        centre = person.lattice.centre
        light = None if node == centre else self._picture(person, centre)
        made = self._made(person, node, light)
        self._keep(person, node, made)
        return made

    def _made(self, person: _Person, node: Node, light: NodePicture | None) -> NodePicture | None:
        """A node's picture, with the tones of the grid's centre, if that has one."""
        appearance: Appearance = person.lattice.appearance(node)
        mouth = Expression(appearance.opening, appearance.width, 0.0)
        with self._rendering:
            try:
                shown = self._render(
                    person.key, person.classes.of_person, appearance.pose, mouth, person.size
                )
            except ValueError:  # no face in this pose
                return None
        shown = hair.worn(shown, person.classes, self._heads)
        picture = node_pictures.node_picture(shown, person.size)
        return picture if light is None else node_pictures.toned(picture, light)

    def _keep(self, person: _Person, node: Node, made: NodePicture | None) -> None:
        with self._turn:
            before = self._kept.pop((person, node), None)
            self._bytes += _bytes(made) - _bytes(before)
            self._kept[person, node] = made
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                name, gone = self._kept.popitem(last=False)
                self._bytes -= _bytes(gone)
                self._fading.pop(name, None)

    # Without waiting.

    def _first(self, key: bytes, classes: Classes, size: int) -> tuple[_Person, Node]:
        person = _Person.of(key, classes, size, self._smile, wait=False)
        return person, person.lattice.centre

    def _ready(self, person: _Person, wanted: list[tuple[Node, float]]) -> _Corners:
        """Corners that are there: for one that is not, the nearest that is; new ones come in by and by."""
        first = self._drawable(person, person.lattice.centre)
        corners, missing = [], []
        with self._turn:
            self._raise_failure()
            there = {n: p for (one, n), p in self._kept.items() if one == person and p is not None}
            settled = {n: p for n, p in there.items() if (person, n) not in self._fading} or there
            for node, weight in wanted:
                share = self._share(person, node) if node in there else 0.0
                if share:
                    self._kept.move_to_end((person, node))
                    corners.append((there[node], share * weight))
                elif (person, node) not in self._kept:
                    missing.append((person, node))
                if share < 1:
                    near = (
                        settled[n] for n in (node, *person.lattice.nearby(node)) if n in settled
                    )
                    corners.append((next(near, first), (1 - share) * weight))
        self._ask(missing)
        return _merged(corners)

    def _raise_failure(self) -> None:
        """What failed in the background, once."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _share(self, person: _Person, node: Node) -> float:
        """How far a picture that came from the background has come in."""
        calls = self._fading.get((person, node))
        if calls is None:
            return 1.0
        if calls + 1 >= _FADE:
            del self._fading[person, node]
            return 1.0
        self._fading[person, node] = calls + 1
        return (calls + 1) / _FADE

    def _ask(self, missing: list[tuple[_Person, Node]]) -> None:
        """Has the background render these first, and then what was asked before."""
        if not missing:
            return
        with self._turn:
            for name in reversed(missing):
                self._asked[name] = None
                self._asked.move_to_end(name, last=False)
            others = [name for name in self._asked if not _is_first(name)]
            for name in others[_MAX_ASKED:]:  # a person that is waited for is not dropped
                del self._asked[name]
            if any(map(_is_first, missing)):
                self._hurry.set()
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="pose grid")
                self._worker.start()

    def _work(self) -> None:
        """In the background: renders what is asked for, and ends."""
        while True:
            with self._turn:
                if not self._asked or self._failure is not None:
                    self._asked.clear()
                    self._worker = None
                    return
                # Who is not there yet goes before how others look.
                name = next(filter(_is_first, self._asked), next(iter(self._asked)))
                if not _is_first(name):
                    self._hurry.clear()
            began = time.perf_counter()
            try:
                self._picture(*name)
            except Exception as error:  # the next call raises it
                with self._turn:
                    self._failure = error
                continue
            took = time.perf_counter() - began
            with self._turn:
                self._asked.pop(name, None)
                self._fading[name] = 0
                others_wait = any(map(_is_first, self._asked))
            if not _is_first(name):
                self._hurry.wait(_PAUSE * took)
            elif others_wait:
                self._closed.wait(_PAUSE_OF_PERSONS * took)


def _apart(layers: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture u8[S, S, 3] and its head u8[S, S], if it has one, of u8[S, S, 3 or 4]."""
    if layers.shape[-1] == 3:
        return layers, None
    return np.ascontiguousarray(layers[..., :3]), np.ascontiguousarray(layers[..., 3])


def _is_first(name: tuple[_Person, Node]) -> bool:
    person, node = name
    return node == person.lattice.centre


def _bytes(picture: NodePicture | None) -> int:
    return 0 if picture is None else picture.nbytes


def _merged(corners: _Corners) -> _Corners:
    """Corners with each picture once, the heaviest first."""
    weights: dict[int, tuple[NodePicture, float]] = {}
    for picture, weight in corners:
        weights[id(picture)] = picture, weight + weights.get(id(picture), (None, 0.0))[1]
    return sorted(weights.values(), key=lambda c: -c[1])
