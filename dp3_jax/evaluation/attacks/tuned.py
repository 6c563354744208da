"""A face recogniser trained further on anonymized pictures: the stronger parrot (see `parrot`).

dlib's network in JAX learns that an anonymized picture of somebody shall be near the unchanged network's
embedding of another, original picture of the same person and far from those of others (a softmax over the
people of a batch: van den Oord et al., 2018, arXiv:1807.03748). Only its upper layers are trained; the maps
below them are computed once. The best of some checkpoints on people who were held back is taken, the
untrained network among them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dp3_jax.common import assets
from dp3_jax.common.errors import UserError
from dp3_jax.evaluation.attacks import parrot, recognition
from dp3_jax.evaluation.attacks.attack import AttackResult, FaceSet, gallery_and_probes
from dp3_jax.evaluation.attacks.remembering import Marked, remembered
from dp3_jax.metrics import identification, verification
from dp3_jax.models import embedders

Params = Any
BATCH = 32  # people
CHECKPOINTS = 4
_TEMPERATURE = 0.1
_LEARNING_RATE = 1e-3
_HELD_BACK = 0.2  # of the people
_MIN_PEOPLE = 10
_AT_ONCE = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A recogniser in two parts.

    Attributes:
      maps: u8[n, S, S, 3] -> f32[n, ...], what is not trained.
      params: of the rest.
      apply: (params, maps) -> f32[n, D].
    """

    maps: Callable[[np.ndarray], np.ndarray]
    params: Params
    apply: Callable[[Params, jax.Array], jax.Array]


@functools.cache
def open_dlib() -> Network:
    """dlib's, of faces in the canonical frame.

    Raises:
      UserError: its weights cannot be had.
    """
    from dp3_jax.models import dlib_resnet

    manifest, weights = assets.fetch("dlib_resnet_manifest"), assets.fetch("dlib_resnet")
    all_of_it = dlib_resnet.load_parameters(manifest, weights)
    lower = jax.jit(functools.partial(dlib_resnet.lower, jax.device_put(all_of_it)))

    def maps(pictures: np.ndarray) -> np.ndarray:
        points = verification.canonical_points(pictures)
        done = []
        for start in range(0, len(pictures), _AT_ONCE):
            part = pictures[start : start + _AT_ONCE]
            faces = np.zeros((_AT_ONCE, dlib_resnet.SIDE, dlib_resnet.SIDE, 3), np.uint8)
            for face, picture, five in zip(faces, part, points, strict=False):
                face[...] = embedders.align(picture, five, embedders.DlibResNet)
            done.append(np.asarray(lower(faces))[: len(part)])
        return np.concatenate(done)

    params = {name: value for name, value in all_of_it.items() if dlib_resnet.is_upper(name)}
    return Network(maps, params, dlib_resnet.upper)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def embeddings(network: Network, params: Params, maps: np.ndarray) -> np.ndarray:
    """f32[n, D], unit rows."""
    apply, done = jax.jit(lambda p, x: _unit(network.apply(p, x))), []
    for start in range(0, len(maps), _AT_ONCE):
        part = maps[start : start + _AT_ONCE]
        missing = [(0, _AT_ONCE - len(part))] + [(0, 0)] * (maps.ndim - 1)
        done.append(np.asarray(apply(params, np.pad(part, missing)))[: len(part)])
    return np.concatenate(done)


@remembered
def _maps(network: Network, pictures: np.ndarray) -> np.ndarray:
    return network.maps(pictures)


@dataclasses.dataclass(frozen=True, eq=False)
class Lessons(Marked):
    """What is learned from: f[n, ...] maps, unit targets f[n, D] and i[n], whose they are."""

    maps: np.ndarray
    target: np.ndarray
    people: np.ndarray

    def of(self, rows: np.ndarray) -> "Lessons":
        """Some of them."""
        return Lessons(self.maps[rows], self.target[rows], self.people[rows])


def _area(network: Network, params: Params, lessons: Lessons) -> float:
    """How often the right one of two people is picked."""
    _, first, whose = np.unique(lessons.people, return_index=True, return_inverse=True)
    scores = embeddings(network, params, lessons.maps) @ lessons.target[first].T
    same = whose[:, None] == np.arange(len(first))
    return float(recognition.preferred(scores, same).mean())


@remembered
def train(network: Network, lessons: Lessons, updates: int, seed: int) -> Params:
    """Parameters that bring maps near the targets of the same people, and not near others'."""
    rng = np.random.default_rng(seed)
    everyone = rng.permutation(np.unique(lessons.people))
    back = everyone[: max(3, round(_HELD_BACK * len(everyone)))]
    tried, rest = lessons.of(np.isin(lessons.people, back)), everyone[len(back) :]
    rows_of = [np.flatnonzero(lessons.people == person) for person in rest]
    optimizer = optax.adamw(optax.cosine_decay_schedule(_LEARNING_RATE, updates))
    params, state = network.params, optimizer.init(network.params)

    def loss(params: Params, shown: jax.Array, wanted: jax.Array) -> jax.Array:
        logits = _unit(network.apply(params, shown)) @ wanted.T / _TEMPERATURE
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.arange(len(logits))
        ).mean()

    @jax.jit
    def update(params, state, shown, wanted):
        gradient = jax.grad(loss)(params, shown, wanted)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state

    best = (_area(network, params, tried), network.params)
    for number in range(1, updates + 1):
        chosen = rng.permutation(len(rest))[: min(BATCH, len(rest))]
        rows = [rng.choice(rows_of[i]) for i in chosen]
        params, state = update(params, state, lessons.maps[rows], lessons.target[rows])
        if number % max(updates // CHECKPOINTS, 1) == 0:
            area = _area(network, params, tried)
            best = max(best, (area, params), key=lambda pair: pair[0])
    return best[1]


@dataclasses.dataclass(frozen=True, eq=False)
class FittedTuned:
    """Parameters by kind of picture; the targets' mean, which is taken off; who reads surroundings."""

    attack: "Tuned"
    surroundings: parrot.FittedParrot | None
    network: Network
    params: Mapping[str, Params]
    mean: np.ndarray
    people: np.ndarray

    def score(self, faces: FaceSet) -> AttackResult:
        """See `FittedAttack`; the control are originals by the network as it was."""
        if np.isin(faces.people, self.people).any():
            raise ValueError("the attacker must not train on people that it is tried on")
        gallery, probes = gallery_and_probes(faces.people)
        if len(gallery) < 3:
            return recognition.unjudged(self.attack, "three people need two faces each")
        network = self.network
        whose = embeddings(network, network.params, _maps(network, faces.originals[gallery]))
        whose = np.asarray(_unit(whose - self.mean))
        scores = {}
        for kind, pictures in parrot.kinds_of(faces).items():
            # Strangers' results are looked at as any result is.
            params = self.params.get("anonymized" if kind == "impostors" else kind, network.params)
            seen = embeddings(network, params, _maps(network, pictures[probes]))
            scores[kind] = (seen - self.mean if kind == "originals" else seen) @ whose.T
        same = identification.same_person(faces.people[probes], faces.people[gallery])
        if self.surroundings is not None:
            read = self.surroundings.scores(faces)[0]["blanked"]["trained"]
            area = [recognition.preferred(one, same).mean() for one in (scores["blanked"], read)]
            scores["blanked"] = read if area[1] > area[0] else scores["blanked"]
        return recognition.recognised(
            self.attack,
            scores,
            same,
            faces.people[probes],
            f"trained a recogniser further on such pictures of {len(np.unique(self.people))} other people",
        )


@dataclasses.dataclass(frozen=True)
class Tuned:
    """The attack.

    Attributes:
      network: opens what is trained further.
      updates: of each of the two networks, for results and for blanked pictures.
      surroundings: opens what surroundings are read with besides; None: nothing. A network for faces hardly
        learns from pictures without one, so that a regression may set the higher floor.
    """

    network: Callable[[], Network] = open_dlib
    updates: int = 160
    surroundings: Callable[[], parrot.Eyes] | None = parrot.open_eyes

    name: ClassVar[str] = "parrot_tuned"
    title: ClassVar[str] = "Recogniser trained further on anonymized faces"
    trains: ClassVar[bool] = True
    needs_people: ClassVar[bool] = True

    def fit(self, faces: FaceSet, seed: int) -> FittedTuned:
        """See `Attack`.

        Raises:
          UserError: fewer than _MIN_PEOPLE people have two faces, or the weights cannot be had.
        """
        gallery, probes = gallery_and_probes(faces.people)
        if len(gallery) < _MIN_PEOPLE:
            raise UserError(
                f"{self.title.lower()}: {len(gallery)} people with two faces are too few to learn from; "
                f"it takes {_MIN_PEOPLE}"
            )
        network, people = self.network(), faces.people[probes]
        whose = embeddings(network, network.params, _maps(network, faces.originals[gallery]))
        mean = whose.mean(0)
        row_of = {person: row for row, person in enumerate(faces.people[gallery].tolist())}
        target = np.asarray(_unit(whose - mean))[[row_of[p] for p in people.tolist()]]
        pictures = parrot.kinds_of(faces)
        params = {
            kind: train(
                network,
                Lessons(_maps(network, pictures[kind][probes]), target, people),
                self.updates,
                seed,
            )
            for kind in ("anonymized", "blanked")
        }
        reader = None
        if self.surroundings is not None:
            reader = parrot.Parrot(self.surroundings, kinds=("blanked",)).fit(faces, seed)
        return FittedTuned(self, reader, network, params, mean, people)
