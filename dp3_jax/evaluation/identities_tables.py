"""Tables of what was measured on photos with new faces: pure functions of `face_measures.Measures`.

`rows` are measures by the name of what is in the photos (see identities_suite), each with `index` besides,
i64[n]: which probes they are of, rising.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dp3_jax.evaluation.attacks import conditioning
from dp3_jax.evaluation.attacks.linkage import linked
from dp3_jax.metrics import head_pose, identification, kid
from dp3_jax.metrics.face_measures import MOBILENET, Measures
from dp3_jax.metrics.resampling import interval
from dp3_jax.replacement.identities import TONES, tone_band

Rows = Mapping[str, Measures]

_MOUTH_OPEN = 0.1  # eye distances between the lips from which a mouth counts as open


def select(measures: Measures, index: np.ndarray) -> Measures:
    """The rows of the probes `index`, all of which must be there."""
    places = np.searchsorted(measures["index"], index)
    return {name: values[places] for name, values in measures.items()}


def _agreement(
    measures: Measures, verifier: str, gallery: Measures, same: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each probe whether it is verified, and its credit at rank 1; nan where no face was found.

    People without a face in the gallery count as not found.
    """
    known = gallery["found"]
    scores = measures[verifier] @ gallery[verifier][known].T
    own = same[:, known]
    usable = measures["found"] & own.any(1)
    best = scores == scores.max(1, keepdims=True)
    ranked = (best & own).sum(1) / best.sum(1)
    verified = (np.where(own, scores, -np.inf).max(1) >= threshold).astype(float)
    return np.where(usable, verified, np.nan), np.where(usable, ranked, np.nan)


def above_baseline(
    rows: Rows, verifier: str, gallery: Measures, same: np.ndarray, threshold: float | None
) -> dict[str, Any] | None:
    """How much more often a new face is verified, and found first, than a real person's in its place.

    Args:
      rows: with "new" and "real_person", of the same probes.
      verifier: whose embeddings.
      gallery: measures of one picture of each person.
      same: bool[P, G], which are of one person.
      threshold: of the verifier at the false accept rate; None: there is none.

    Returns:
      verified and rank_1: `interval`s of the paired difference; None without a threshold.
    """
    if threshold is None or not {"new", "real_person"} <= set(rows):
        return None
    people = np.argmax(same, 1)
    pairs = [
        _agreement(rows[name], verifier, gallery, same, threshold)
        for name in ("new", "real_person")
    ]
    names = ("verified", "rank_1")
    return {
        name: interval(new - real, people) for name, new, real in zip(names, *pairs, strict=True)
    }


def vector_alone(
    original: Measures, gallery: Measures, probe_people: np.ndarray, gallery_people: np.ndarray
) -> dict[str, Any]:
    """What the vector that passes on (`detection.face_vector`) gives away of who somebody is.

    Args:
      original: measures of the P photos as they are.
      gallery: of the G pictures.
      probe_people, gallery_people: i[P], i[G].

    Returns:
      As `conditioning.vector_alone`, of yaw, pitch, mouth opening and mouth width.
    """

    def vectors(measures: Measures) -> np.ndarray:
        four = np.concatenate([measures["pose"][:, :2], measures["expression"][:, :2]], 1)
        return four[measures["found"]].astype(np.float64)

    return conditioning.vector_alone(
        vectors(original),
        vectors(gallery),
        probe_people[original["found"]],
        gallery_people[gallery["found"]],
    )


def linkage(rows: Rows, kind: str, verifier: str, threshold: float) -> dict[str, Any] | None:
    """Are two photos that came of one photo, with two keys, called one person's?

    Pairs in which both keys took the same real person are left out.

    Args:
      rows: with `kind` and `kind`_2.
      kind: of the photos.
      verifier: whose embeddings.
      threshold: from which cosine on it says "the same person".
    """
    if f"{kind}_2" not in rows:
        return None
    both = np.intersect1d(rows[kind]["index"], rows[f"{kind}_2"]["index"])
    first, second = select(rows[kind], both), select(rows[f"{kind}_2"], both)
    usable = first["found"] & second["found"]
    if "person" in first:
        usable &= (first["person"] != second["person"]) | (first["person"] == "")
    return linked((first[verifier] * second[verifier]).sum(1)[usable], threshold)


def likeness(rows: Rows, kind: str, verifier: str, threshold: float) -> dict[str, Any] | None:
    """How like its donor a new face is, as `linkage`."""
    if kind not in rows or "donors" not in rows:
        return None
    donors = rows["donors"]
    faces = select(rows[kind], donors["index"])
    usable = faces["found"] & donors["found"]
    cosines = (faces[verifier] * donors[verifier]).sum(1)[usable]
    same = identification.Rate(int((cosines >= threshold).sum()), len(cosines))
    return {"same": same.as_dict(), "cosine": float(cosines.mean()) if len(cosines) else None}


def _kid(
    pictures: np.ndarray, whose: np.ndarray, gallery: np.ndarray, people: np.ndarray
) -> tuple[float, float | None]:
    """KID and its standard error of features f[n, d] against f[G, d], no person in both, none twice in one.

    KID takes its pictures for independent, which two of one person are not. So each half of the people is
    compared with the other half's gallery, with one picture of each person at a time; the values' mean.

    Args:
      pictures: features, those of one person next to each other.
      whose: i[n]; people: i[G], all different.
    """
    halves = people[: len(people) // 2], people[len(people) // 2 :]
    ranks = ranks_of(whose)
    estimates = []
    for rank in np.unique(ranks):
        for own, other in (halves, halves[::-1]):
            x = pictures[(ranks == rank) & np.isin(whose, own)]
            y = gallery[np.isin(people, other)]
            if len(x) > 1 and len(y) > 1:
                estimates.append(kid.kid(x, y))
    if not estimates:
        return float("nan"), None
    values, errors = np.array(estimates).T
    # Those of one half look at the same people: as good as two, not as four.
    error = float(errors.mean() / np.sqrt(2))
    return float(values.mean()), error if np.isfinite(error) else None


def ranks_of(people: np.ndarray) -> np.ndarray:
    """i64[n]: which picture of its person each one is, from 0; those of a person lie next to each other."""
    people = np.asarray(people)
    if not len(people):
        return np.zeros(0, np.int64)
    first = np.r_[True, people[1:] != people[:-1]]
    return np.arange(len(people)) - np.flatnonzero(first)[np.cumsum(first) - 1]


def realism(
    rows: Rows, gallery: Measures, names: Sequence[str], whose: np.ndarray, people: np.ndarray
) -> dict[str, Any]:
    """KID of each kind of photo against other people's in the gallery, by each of the features `names`.

    All kinds are compared on the probes that all have. Features are unit embeddings times sqrt(d), as
    `kid.face_features`, but of faces aligned by their own points, and MobileNetV2's as they are.

    Args:
      rows: of the probes.
      gallery: measures of a picture of each person.
      names: of the features.
      whose: i[P], whose each probe is; people: i[G], whose each picture of the gallery is.

    Returns:
      By features and kind the KID and its standard error; "closed" is how much of the way from the shipped
      weights to real people in the same pipeline the new faces go, None where it cannot be said.
    """
    kinds = [name for name in rows if not name.endswith("_2")]
    shared = rows[kinds[0]]["index"]
    for name in kinds:
        shared = np.intersect1d(shared, rows[name]["index"])
    result: dict[str, Any] = {"pictures": len(shared)}
    for features in names:
        if features not in gallery:
            continue

        def scaled(measures: Measures, features: str = features) -> np.ndarray:
            values = measures[features]
            return values if features == MOBILENET else values * np.sqrt(values.shape[1])

        table = {}
        for kind in kinds:
            own = scaled(select(rows[kind], shared))
            value, error = _kid(own, whose[shared], scaled(gallery), people)
            if np.isfinite(value):  # else there are too few people for any estimate
                table[kind] = {"kid": value, "standard_error": error}
        result[features] = {"rows": table, "closed": _closed(table)}
    return result


def _closed(table: Mapping[str, Mapping[str, float]]) -> float | None:
    if not {"new", "shipped", "real_person"} <= set(table):
        return None
    new, shipped, ceiling = (table[kind]["kid"] for kind in ("new", "shipped", "real_person"))
    return (shipped - new) / (shipped - ceiling) if shipped > ceiling else None


def _others(people: np.ndarray) -> np.ndarray:
    """i64[n]: for each picture one of somebody else."""
    _, counts = np.unique(people, return_counts=True)
    return np.roll(np.arange(len(people)), -int(counts.max(initial=0)))


def expressions(rows: Rows, people: np.ndarray) -> dict[str, Any]:
    """Pose and expression of each kind of photo against the original's; "another_face" is what chance gives.

    Args:
      rows: with "original", of all probes.
      people: i[P], whose the probes are.

    Returns:
      By kind: yaw, pitch, roll: `interval` of the absolute difference of the mesh's pose in degrees;
      yaw_by_points: the same of the pose by YuNet's five points. mouth_open, smile: share in which both
      agree (a smile is a mouth wider than the median of the originals); mouth_opening, mouth_width:
      correlations over the photos.
    """
    original = rows["original"]
    shuffled = _others(people)
    kinds: dict[str, Measures] = {
        "another_face": {k: v[shuffled] for k, v in original.items()} | {"index": original["index"]}
    }
    kinds |= {k: v for k, v in rows.items() if k not in ("original", "donors") and k[-2:] != "_2"}
    median = float(np.median(original["expression"][:, 1]))
    table = {}
    for kind, measures in kinds.items():
        real, whose = select(original, measures["index"]), people[measures["index"]]
        seen = measures["found"] & real["found"]
        if not seen.any():
            continue
        apart = head_pose.difference(measures["pose"], real["pose"])[seen]
        five = [
            head_pose.difference(head_pose.head_pose(a), head_pose.head_pose(b))[0]
            for a, b in zip(measures["points"][seen], real["points"][seen], strict=True)
        ]
        row = {
            name: interval(apart[:, i], whose[seen])
            for i, name in enumerate(("yaw", "pitch", "roll"))
        }
        row["yaw_by_points"] = interval(np.array(five), whose[seen])
        new, old = measures["expression"][seen], real["expression"][seen]
        for name, column, limit in (("mouth_open", 0, _MOUTH_OPEN), ("smile", 1, median)):
            agree = (new[:, column] > limit) == (old[:, column] > limit)
            row[name] = interval(agree.astype(float), whose[seen])
        for name, column in (("mouth_opening", 0), ("mouth_width", 1)):
            spread = new[:, column].std() * old[:, column].std()
            both = np.cov(new[:, column], old[:, column], ddof=0)[0, 1]
            row[name] = float(both / spread) if spread > 0 else None
        table[kind] = row
    return table


def tones(rows: Rows, people: np.ndarray) -> dict[str, Any]:
    """Skin tone of each kind of photo by the band of the original's.

    Returns:
      By kind: bands: for each band of the original the number of photos, the share within one band of it
      and the mean difference of the angle in degrees (positive: lighter); within_one_band: `interval` of
      the share over all; dark: the same over the originals of the two darkest bands.
    """
    original, table = rows["original"], {}
    for kind, measures in rows.items():
        if kind in ("original", "donors") or kind.endswith("_2"):
            continue
        real, whose = select(original, measures["index"]), people[measures["index"]]
        old = np.array([tone_band(a) for a in real["ita"]], int)
        new = np.array([tone_band(a) for a in measures["ita"]], int)
        near = (np.abs(old - new) <= 1).astype(float)
        bands = []
        for band in range(TONES):
            of = old == band
            lighter = (measures["ita"] - real["ita"])[of]
            bands.append(
                {
                    "photos": int(of.sum()),
                    "within_one_band": float(near[of].mean()) if of.any() else None,
                    "lighter": float(lighter.mean()) if of.any() else None,
                }
            )
        table[kind] = {
            "bands": bands,
            "within_one_band": interval(near, whose),
            "dark": interval(near[old <= 1], whose[old <= 1]),
        }
    return table
