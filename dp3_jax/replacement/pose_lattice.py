"""The grid that a person's renderings lie on: which of them a look is made of, and by how much of each.

A look has four coordinates: yaw, pitch, how far the mouth is open, and how broad it smiles. Between the nodes
of the grid weights follow Kuhn's simplices (Kuhn, 1960): the coordinates within a cell, sorted, cut it into
simplices, so that at most five of its sixteen corners have a weight, and weights are continuous. Near a node
they do not change at all: what a face's texture is made of may rest where its geometry moves, and a head that
hardly turns needs one node.
"""

import bisect
import functools
import itertools
from typing import NamedTuple

from dp3_jax.models.mesh import Expression, Pose
from dp3_jax.replacement import identities
from dp3_jax.replacement.smiles import mouth_of

# Share of the way between two nodes over which each of them is alone.
_NODE_MARGIN = 0.2
_NEUTRAL_WIDTH = 0.86  # eye distances: the mouths of nodes that do not smile
_SMILING_WIDTH = 1.02  # and of those that do
_APART = 0.05  # of openings, at least
_SMILES = 0.92, 1.02  # widths between which the smile comes


class Node(NamedTuple):
    """A place of the grid: numbers of its yaw, pitch, opening and smile."""

    yaw: int
    pitch: int
    opening: int
    smile: int


class Axis(NamedTuple):
    """One coordinate of the grid: where its nodes lie."""

    nodes: tuple[float, ...]

    def place(self, value: float) -> tuple[int, float]:
        """(the node below, how far the texture is on the way to the next, 0 to 1) of a value."""
        last = len(self.nodes) - 1
        if last == 0:
            return 0, 0.0
        low = min(max(bisect.bisect_right(self.nodes, value) - 1, 0), last - 1)
        start, end = self.nodes[low : low + 2]
        share = (value - start) / (end - start)
        return low, min(max((share - _NODE_MARGIN) / (1 - 2 * _NODE_MARGIN), 0.0), 1.0)

    def nearest(self, value: float) -> int:
        """The number of the node that is closest."""
        return min(range(len(self.nodes)), key=lambda i: (abs(self.nodes[i] - value), i))


class Appearance(NamedTuple):
    """What a rendering is to show, within what a source can draw.

    Attributes:
      yaw, pitch: degrees.
      opening, width: of the mouth, in eye distances.
    """

    yaw: float
    pitch: float
    opening: float
    width: float

    @property
    def pose(self) -> Pose:
        """Without a roll."""
        return Pose(self.yaw, self.pitch, 0.0)


class Lattice(NamedTuple):
    """A grid. Pitches are shares of what can be drawn at a yaw, from -1, up, to 1, down."""

    yaws: Axis
    pitches: Axis
    openings: Axis
    smiles: Axis

    def coordinates(self, appearance: Appearance) -> tuple[float, float, float, float]:
        """Of a look, as the axes have them."""
        start, end = _SMILES
        smile = min(max((appearance.width - start) / (end - start), 0.0), 1.0)
        return (
            appearance.yaw,
            _pitch_share(appearance.yaw, appearance.pitch),
            appearance.opening,
            smile,
        )

    def corners(self, appearance: Appearance) -> list[tuple[Node, float]]:
        """The nodes whose renderings make a look, the heaviest first, with weights whose sum is 1."""
        places = [a.place(v) for a, v in zip(self, self.coordinates(appearance), strict=True)]
        base = [low for low, _ in places]
        order = sorted(range(len(places)), key=lambda i: (-places[i][1], i))
        shares = [1.0, *(places[i][1] for i in order), 0.0]
        found = []
        for step, (now, then) in enumerate(itertools.pairwise(shares)):
            if step:
                base[order[step - 1]] += 1
            if now > then:
                found.append((Node(*base), now - then))
        return sorted(found, key=lambda f: (-f[1], f[0]))

    def appearance(self, node: Node) -> Appearance:
        """What is asked of the source at a node."""
        yaw = self.yaws.nodes[node.yaw]
        lowest, highest = _pitch_limits(yaw)
        share = self.pitches.nodes[node.pitch]
        width = _NEUTRAL_WIDTH + self.smiles.nodes[node.smile] * (_SMILING_WIDTH - _NEUTRAL_WIDTH)
        opening = self.openings.nodes[node.opening]
        return Appearance(yaw, share * (highest if share > 0 else -lowest), opening, width)

    def smiling(self, smile: bool | None) -> "Lattice":
        """The same for a wished mouth (`smiles`): all nodes have its width, and are open as far as it is."""
        if smile is None:
            return self
        mouth = mouth_of(smile)
        share = (mouth.mouth_width - _NEUTRAL_WIDTH) / (_SMILING_WIDTH - _NEUTRAL_WIDTH)
        wider = (
            opening for opening in self.openings.nodes[1:] if opening > mouth.mouth_opening + _APART
        )
        openings = Axis((mouth.mouth_opening, *wider))
        return self._replace(openings=openings, smiles=Axis((share,)))

    @property
    def centre(self) -> Node:
        """The node that looks ahead with a closed mouth."""
        return Node(self.yaws.nearest(0.0), self.pitches.nearest(0.0), 0, 0)

    def nodes(self) -> list[Node]:
        """All of them."""
        a, b, c, d = (range(len(axis.nodes)) for axis in self)
        return [Node(i, j, k, m) for i in a for j in b for k in c for m in d]

    @functools.cache  # noqa: B019  (there are few lattices, for as long as the process lives)
    def nearby(self, node: Node) -> tuple[Node, ...]:
        """All other nodes, the nearest first: first of other mouths, then of other poses."""

        def away(other: Node) -> tuple[int, Node]:
            steps = [abs(a - b) for a, b in zip(node, other, strict=True)]
            return 3 * (steps[0] + steps[1]) + steps[2] + steps[3], other

        return tuple(sorted((n for n in self.nodes() if n != node), key=away))


# Of faces that are worth 256 px. The steps are as wide as a mesh warps well (docs/pose_grid.jpg).
FINE = Lattice(
    Axis((-27.0, -14.0, 0.0, 14.0, 27.0)),
    Axis((-1.0, 0.0, 1.0)),
    Axis((0.0, 0.13, 0.28)),
    Axis((0.0, 1.0)),
)
# Of the same live, where renderings are made beside: six do for what otherwise takes ten and more.
LIVE = Lattice(Axis((-24.0, 0.0, 24.0)), Axis((0.0,)), Axis((0.0, 0.13, 0.28)), Axis((0.0,)))
# Of small ones, which are many and whose teeth are hardly seen.
COARSE = Lattice(Axis((-24.0, 0.0, 24.0)), Axis((0.0,)), Axis((0.0, 0.2)), Axis((0.0,)))


def _pitch_limits(yaw: float) -> tuple[float, float]:
    """Degrees up and down that a head turned by `yaw` can be drawn in."""
    return tuple(identities.clamped_pose(Pose(yaw, v, 0.0))[0].pitch for v in (-90.0, 90.0))


def _pitch_share(yaw: float, pitch: float) -> float:
    lowest, highest = _pitch_limits(yaw)
    return pitch / (highest if pitch > 0 else -lowest)


def clamped_appearance(pose: Pose, mouth: Expression | None) -> tuple[Appearance, bool]:
    """The nearest look that can be drawn, and whether the pose had to be moved for it."""
    near, clamped = identities.clamped_pose(pose)
    if mouth is None:
        return Appearance(near.yaw, near.pitch, 0.0, _NEUTRAL_WIDTH), clamped
    shown = identities.clamped_expression(mouth)
    return Appearance(near.yaw, near.pitch, shown.mouth_opening, shown.mouth_width), clamped
