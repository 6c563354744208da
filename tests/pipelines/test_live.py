"""Live video: what is shown has its faces covered, and nothing grows old on the way."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dp3_jax.common.errors import UserError
from dp3_jax.detection.tracking import Tracker
from dp3_jax.detection.tracks import Observation, Track
from dp3_jax.media.live.sources import Frame, pace
from dp3_jax.pipelines.live import pipeline
from dp3_jax.pipelines.live.persons import Persons
from dp3_jax.pipelines.live.pipeline import Pipeline
from dp3_jax.pipelines.live.quality_controller import LEVELS, START, Level, QualityController
from dp3_jax.pipelines.live.release_policy import FULL, ReleasePolicy, TrackedFrame
from dp3_jax.replacement.clip_rendering import Renderer
from dp3_jax.replacement.face_actions import Settings
from dp3_jax.replacement.renderers import BuiltinRenderer
from tests import live_scenes
from tests.face_photos import Broken, Painter
from tests.live_scenes import HEIGHT, WIDTH, Collector, Finder, SceneChange, Walk, shows_a_face

KEYS = {number: bytes([number % 256]) * 32 for number in range(1000)}
EVERY = Level(1, 640, 1)
THIRD = Level(3, 640, 3)


def make_policy(finder, **options):
    return ReleasePolicy(finder, Tracker(WIDTH, HEIGHT), SceneChange(), **options)


def renderers(generator=None, method="generate"):
    face_renderer = None if generator is None else BuiltinRenderer(generator)
    return lambda: Renderer(Settings(method=method), face_renderer, KEYS, causal=True)


def run_pipeline(scenes, policy, new_renderer, sink, *, drop=True, gap=0.0, level=START):
    pipeline = Pipeline(
        live_scenes.frames(scenes, gap),
        policy,
        new_renderer,
        sink,
        controller=QualityController(level, fixed=True),
        stopping=threading.Event(),
        drop=drop,
    )
    pipeline.run(lambda recent: None)
    return pipeline


# --- the whole pipeline -----------------------------------------------------------------------------


class Unsteady:
    """A renderer that fails in the frames it is told to."""

    def __init__(self, inner, fails):
        self._inner, self._fails, self._calls = inner, fails, 0

    def render(self, image, faces, *, cut=False):
        self._calls += 1
        if self._calls in self._fails:
            raise RuntimeError("renderer lost")
        return self._inner.render(image, faces, cut=cut)


class Moody(Painter):
    """A generator that fails in the calls it is told to."""

    def __init__(self, fails):
        super().__init__()
        self._fails, self._calls = fails, 0

    def generate(self, image, mask, z):
        self._calls += 1
        if self._calls in self._fails:
            raise RuntimeError("generator lost")
        return super().generate(image, mask, z)


walks = st.builds(
    Walk,
    first=st.integers(0, 6),
    last=st.integers(6, 14),
    x=st.floats(40, 110),
    y=st.floats(60, 100),
    speed=st.floats(-2, 2),
    size=st.floats(50, 66),
)
# Two faces of one scene lie apart: overlapping ones are one blob in the eyes of the finder.
two = st.tuples(walks, walks).map(lambda p: [p[0], Walk(**{**vars(p[1]), "x": p[1].x + 110})])
scene = st.tuples(st.one_of(st.just([]), walks.map(lambda w: [w]), two), st.integers(1, 15))
numbers = st.sets(st.integers(0, 30), max_size=8)


@settings(max_examples=12)
@given(
    scenes=st.lists(scene, min_size=1, max_size=3),
    detector=st.tuples(numbers, st.sets(st.integers(0, 40).map(lambda n: 2 * n)), numbers),
    broken=st.tuples(numbers, numbers),
    level_and_delay=st.tuples(st.integers(0, len(LEVELS) - 1), st.integers(0, 2)),
    drop=st.booleans(),
)
def test_no_face_is_shown_whatever_fails(scenes, detector, broken, level_and_delay, drop):
    level, delay = level_and_delay
    policy = make_policy(Finder(*detector), delay=delay)
    inner = renderers(Moody(broken[0]))
    sink = Collector()
    pipeline = run_pipeline(
        scenes, policy, lambda: Unsteady(inner(), broken[1]), sink, drop=drop, level=level
    )
    assert not any(shows_a_face(image) for image in sink.images)
    assert sink.times == sorted(set(sink.times))
    frames = pipeline.meter.total()["frames"]
    assert frames["arrived"] == sum(count for _, count in scenes)
    assert frames["arrived"] == frames["shown"] + frames["dropped"] + frames["withheld"]
    assert len(sink.images) == frames["shown"]
    assert drop or not frames["dropped"]


WALKING = [([Walk(0, 60, 60, 80, 1.5)], 61)]


def test_a_slow_target_drops_frames_and_keeps_their_order():
    sink = Collector(slow=0.02)
    policy = make_policy(Finder())
    pipeline = run_pipeline(WALKING, policy, renderers(Painter()), sink, gap=0.002)
    frames = pipeline.meter.total()["frames"]
    assert frames["dropped"] > 0 and frames["shown"] > 2
    assert sink.times == sorted(sink.times)
    assert not any(shows_a_face(image) for image in sink.images)


def test_without_dropping_every_frame_is_shown_at_its_time():
    sink = Collector()
    run_pipeline(WALKING, make_policy(Finder(), delay=1), renderers(Painter()), sink, drop=False)
    assert sink.times == [number / 30 for number in range(61)]
    assert not any(shows_a_face(image) for image in sink.images)


@pytest.mark.parametrize("how", ["raises", "floats", "shape", "flat"])
def test_a_broken_generator_leaves_a_cover(how):
    sink = Collector()
    pipeline = run_pipeline(
        WALKING, make_policy(Finder()), renderers(Broken(how)), sink, drop=False
    )
    assert len(sink.images) == 61
    assert not any(shows_a_face(image) for image in sink.images)
    assert pipeline.meter.total()["faces"] == {"covered": 61}


class Careless:
    """A renderer that gives back what it was given, or something else that is no frame."""

    def __init__(self, result=None):
        self.result = result

    def render(self, image, faces, *, cut=False):
        return (image if self.result is None else self.result), []


@pytest.mark.parametrize("result", [None, np.zeros((2, 2, 3), np.uint8)])
def test_a_frame_that_the_renderer_did_not_treat_is_not_shown(result):
    sink = Collector()
    pipeline = run_pipeline(
        WALKING, make_policy(Finder()), lambda: Careless(result), sink, drop=False
    )
    assert not sink.images
    assert pipeline.failures == 61


class Remembering:
    """A renderer that writes down what it was given."""

    def __init__(self):
        self.frames = []

    def render(self, image, faces, *, cut=False):
        self.frames += [observation.frame for _, observation in faces]
        return np.zeros_like(image), [None] * len(faces)


def tracked(number, tracks):
    frame = Frame(number, 0.0, np.zeros((4, 4, 3), np.uint8))
    return TrackedFrame(
        frame,
        {n: Track(n, (Observation(number, (0.0, 0.0, 2.0, 2.0), None, 0.9),)) for n in tracks},
        0,
    )


class Sized:
    """A renderer that notes how each face is to be treated."""

    def __init__(self):
        self.methods = []

    def render(self, image, faces, *, cut=False):
        self.methods.append({track.number: track.method for track, _ in faces})
        return np.zeros_like(image), [None] * len(faces)


def test_faces_without_time_are_blurred_where_others_are_made():
    def shown(method=None, *, blurs=True):
        painter = pipeline.Painter(Sized)
        frame = Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8))
        one = Observation(0, (0.0, 0.0, 2.0, 2.0), None, 0.9)
        faces = {number: Track(number, (one,), method=method) for number in (1, 2)}
        tracked = TrackedFrame(frame, faces, 0, blurred=frozenset({1}))
        painter.paint(tracked, blurs=blurs)
        return [method for _, method in sorted(painter._renderer.methods[-1].items())]

    assert shown() == ["blur", None]
    assert shown("pixelate") == ["pixelate", "pixelate"]
    assert shown(blurs=False) == [None, None]


def test_a_frame_that_waits_is_rendered_once_unless_more_is_known_of_it_in_the_end():
    persons = Persons()
    painter = pipeline.Painter(Remembering, persons)
    renders = painter._renderer.frames
    policy = make_policy(Finder(), delay=1)
    counts = []
    for frame in live_scenes.frames([([Walk(2, 9, 100, 80, 1.0)], 6)]):
        for one in policy.take(frame, EVERY):
            if frame.number == 5:
                persons.renew()
            assert len(painter.paint(one)[1]) == len(one.faces)
            counts.append(len(renders))
        if (ahead := policy.ahead()) is not None:
            painter.paint_ahead(ahead)
    # Frame 1 once more as who entered in frame 2 is carried back, frame 4 as there is to be another person.
    assert counts == [0, 1, 2, 3, 5]


def test_what_fails_ahead_is_tried_again():
    painter = pipeline.Painter(lambda: Unsteady(Remembering(), {1}))
    policy = make_policy(Finder(), delay=1)
    first, second = live_scenes.frames([([Walk(0, 9, 100, 80, 1.0)], 2)])
    assert policy.take(first, EVERY) == []
    painter._renderer = Unsteady(Remembering(), {1})
    painter.paint_ahead(policy.ahead())
    (released,) = policy.take(second, EVERY)
    painter._renderer = Remembering()
    assert len(painter.paint(released)[1]) == 1


def test_a_renderer_that_has_met_many_is_replaced_only_when_nobody_is_in_the_picture():
    painter = pipeline.Painter(Remembering)
    first = painter._renderer
    for number in range(150):
        painter.paint(tracked(7 * number, [1, number + 2]))
    assert painter._renderer is first
    assert first.frames[::2] == list(
        range(1, 151)
    )  # 7 in 8 were dropped, but none between two shown
    painter.paint(tracked(2000, []))
    assert painter._renderer is not first
    renewed = painter._renderer
    painter.paint(tracked(2001, [300]))
    painter.paint(tracked(2002, []))
    assert painter._renderer is renewed


def test_a_picture_without_faces_is_shown_as_it_is():
    sink = Collector()
    run_pipeline([([], 5)], make_policy(Finder()), renderers(), sink, drop=False)
    assert [image.min() for image in sink.images] == [40] * 5


def test_a_target_that_fails_ends_everything():
    class Full(Collector):
        def write(self, image, seconds):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_pipeline(WALKING, make_policy(Finder()), renderers(), Full(), drop=False)


def test_a_source_that_breaks_off_ends_the_run_and_what_came_before_is_shown():
    def breaking():
        yield from live_scenes.frames([([], 3)])
        raise UserError("the stream broke off")

    sink = Collector()
    pipeline = Pipeline(
        breaking(), make_policy(Finder()), renderers(), sink,
        controller=QualityController(fixed=True), stopping=threading.Event(), drop=False,
    )  # fmt: skip
    pipeline.run(lambda recent: None)
    assert len(sink.images) == 3
    assert str(pipeline.source_error) == "the stream broke off"


# --- what may be shown ------------------------------------------------------------------------------


def take_all(policy, scenes, level):
    return [
        [one.frame.number for one in policy.take(frame, level)]
        for frame in live_scenes.frames(scenes)
    ]


def test_nothing_is_shown_before_a_full_pass_on_start_and_after_cuts_and_failures():
    finder = Finder(fails={0, 1, 5})
    policy = make_policy(finder)
    shown = take_all(policy, [([], 4), ([], 6)], THIRD)
    # 0, 1: fail; 2: full; 3: waits, and a cut ends its scene; 4: full; 5: fails; 6: full; 7 to 9: a group.
    assert shown == [[], [], [2], [], [4], [], [6], [], [], [7, 8, 9]]
    assert [i for i, budget in enumerate(finder.budgets) if budget == FULL] == [0, 1, 2, 4, 6]
    assert policy.suppressed == 4
    assert policy.failure == "detector lost"


def test_frames_wait_for_the_pass_over_the_picture_and_get_the_faces_it_finds():
    finder = Finder()
    policy = make_policy(finder)
    scene = [([Walk(2, 9, 100, 80, 1.0)], 4)]
    released = [policy.take(frame, THIRD) for frame in live_scenes.frames(scene)]
    assert [len(group) for group in released] == [1, 0, 0, 3]
    assert [budget.side for budget in finder.budgets] == [FULL.side, None, None, 640]
    # Where it was not seen, the box is larger.
    first, second, third = (one.faces[1].observations[0] for one in released[3])
    assert (first.source, second.source, third.source) == ("filled", "filled", "detected")
    assert first.box[2] > second.box[2] > third.box[2]


def test_with_a_delay_new_faces_are_carried_back_but_not_over_a_cut():
    policy = make_policy(Finder(), delay=1)
    scenes = [([Walk(2, 9, 100, 80, 1.0)], 4), ([Walk(0, 9, 60, 80, 1.0)], 2)]
    released = [one for frame in live_scenes.frames(scenes) for one in policy.take(frame, EVERY)]
    released += policy.finish()
    assert [one.frame.number for one in released] == list(range(6))
    assert [sorted(one.faces) for one in released] == [[], [1], [1], [1], [2], [2]]
    assert [one.scene for one in released] == [0, 0, 0, 0, 1, 1]


def test_faces_that_are_blurred_for_want_of_time_are_not_measured():
    measured = []

    def meter(number, image, faces, every):
        measured.append(len(faces))
        return (None,) * len(faces)

    policy = make_policy(Finder(), meter=meter)
    walks = [Walk(0, 9, 60, 80, 0.0, 40.0), Walk(0, 9, 170, 80, 0.0, 60.0)]
    for frame, most in zip(live_scenes.frames([(walks, 3)]), (None, 1, 0), strict=True):
        (one,) = policy.take(frame, Level(1, 640, 1, most_new=most))
        one.observations()
        assert len(one.faces) == 2
        assert len(one.blurred) == 2 - (2 if most is None else most)
    assert measured == [2, 1]


def test_what_was_never_clear_is_covered_until_it_is_clear():
    class LowConfidence(Finder):
        def __call__(self, *arguments):
            confidence = 0.9 if len(self.budgets) == 4 else 0.6
            return [
                dataclasses.replace(face, confidence=confidence)
                for face in super().__call__(*arguments)
            ]

    policy = make_policy(LowConfidence(), delay=1, low_confidence="blur")
    scene = [([Walk(0, 9, 100, 80, 1.0)], 8)]
    released = [one for frame in live_scenes.frames(scene) for one in policy.take(frame, EVERY)]
    released += policy.finish()
    methods = [track.method for one in released for track in one.faces.values()]
    assert (
        methods == ["blur"] * 3 + [None] * 5
    )  # the frame before the clear one profits from the delay


def test_a_known_face_that_is_not_found_stays_covered_by_its_motion():
    finder = Finder(misses=range(4, 20))
    policy = make_policy(finder)
    walk = Walk(0, 19, 60, 80, 2.0)
    for frame in live_scenes.frames([([walk], 14)]):
        (one,) = policy.take(frame, EVERY)
        (track,) = one.faces.values()
        observation = track.observations[0]
        x, _, width, _ = walk.box(frame.number)
        assert observation.box[0] <= x + 1.5
        assert observation.box[0] + observation.box[2] >= x + width - 1.5
    assert observation.source == "filled"


# --- pacing -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0.001, 0.2), st.floats(0, 0.3)), min_size=1, max_size=20))
def test_a_file_is_played_at_its_own_rate(steps):
    """Steps: (s from frame to frame in the file, s that the reader needs for it)."""
    now, image = [100.0], np.zeros((1, 1, 3), np.uint8)

    def clock():
        return now[0]

    def wait(seconds):
        now[0] += seconds

    def read():
        seconds = 0.0
        for step, work in steps:
            yield seconds, image
            now[0] += work
            seconds += step

    given_at, due, ready = [], [], 100.0
    for frame in pace(read(), wait, clock):
        assert isinstance(frame, Frame)
        given_at.append(clock())
        due.append(100.0 + frame.seconds)
    for (_, work), at, wanted in zip([(0, 0), *steps], given_at, due, strict=False):
        ready += work
        ready = max(ready, wanted)
        assert at == pytest.approx(ready)


def test_arrival_is_stamped_when_the_frame_is_given():
    before = time.perf_counter()
    (frame,) = pace([(0.0, np.zeros((1, 1, 3), np.uint8))], lambda seconds: None)
    assert before <= frame.arrived <= time.perf_counter()
