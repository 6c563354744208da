"""How thoroughly live video is searched: less at once under load, more only in calm."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.pipelines.live.quality_controller import LEVELS, START, Load, QualityController

loads = st.builds(
    Load, st.integers(0, 60), st.sampled_from([0, 0, 0, 3]), st.floats(0, 1), st.floats(0, 1)
)


@given(st.lists(loads, max_size=60))
def test_the_governor_goes_down_at_once_and_up_only_in_calm(history):
    controller, before, calm = QualityController(), START, 0
    for load in history:
        controller.observe(load)
        index = LEVELS.index(controller.level)
        strained = load.arrived and (load.dropped > 0.1 * load.arrived or load.busy > 0.95)
        tense = strained or load.busy >= 0.6 or load.cpu >= 0.5
        calm = calm if not load.arrived else 0 if tense else calm + 1
        if strained:
            steps = 2 if load.dropped > 0.4 * load.arrived else 1
            assert index == min(before + steps, len(LEVELS) - 1)
        elif index < before:
            assert index == before - 1 and calm >= 4
            calm = 0
        else:
            assert index == before
        before = index


def test_the_governor_settles_where_the_machine_keeps_up():
    """On a machine that bears level 3 but not level 2, it tries level 2 ever more rarely."""
    controller, tries = QualityController(), []
    for second in range(1000):
        index = LEVELS.index(controller.level)
        before = index
        controller.observe(Load(30, 9 if index < 3 else 0, 1.0 if index < 3 else 0.5, 0.4))
        if LEVELS.index(controller.level) < before:
            tries.append(second)
    assert LEVELS.index(controller.level) in (2, 3)
    gaps = np.diff(tries)
    assert len(tries) < 30 and gaps[-1] > 3 * gaps[0]


def test_a_fixed_governor_stays():
    controller = QualityController(0, fixed=True)
    controller.observe(Load(30, 30, 1.0, 1.0))
    assert controller.level == LEVELS[0]


def test_busy_cores_are_no_room_for_a_more_thorough_search():
    controller = QualityController()
    for _ in range(100):
        controller.observe(Load(30, 1, 0.3, 0.7))
    assert controller.level == LEVELS[START]


def test_every_level_is_cheaper_than_the_one_before():
    def costs(level):
        most = np.inf if level.most_new is None else level.most_new
        search = level.side**2 / level.every, 1 / level.scan_every
        return *search, 1 / level.measure_every, -level.blurred_below, most

    pairs = itertools.pairwise(map(costs, LEVELS))
    assert all(a != b and all(x >= y for x, y in zip(a, b, strict=True)) for a, b in pairs)


def test_frames_that_are_late_under_load_make_it_cheaper_and_others_do_not():
    controller = QualityController(1)
    for _ in range(3):  # persons are made
        controller.observe(Load(30, 0, 0.9, 0.9, 400.0))
    assert controller.level == LEVELS[1]
    for _ in range(4):
        controller.observe(Load(30, 0, 0.9, 0.9, 60.0))
        controller.observe(Load(30, 0, 0.3, 0.3, 400.0))  # who takes them lets them wait
    assert controller.level == LEVELS[1]
    controller.observe(Load(30, 0, 0.9, 0.9, 140.0))
    assert controller.level == LEVELS[2]


def test_what_a_level_makes_frames_wait_is_not_late():
    controller = QualityController(len(LEVELS) - 2, latest=200.0, frame=40.0)
    for _ in range(5):
        controller.observe(Load(25, 0, 0.9, 0.9, 239.0))
    assert controller.level == LEVELS[-2]
    controller.observe(Load(25, 0, 0.9, 0.9, 241.0))
    assert controller.level == LEVELS[-1]
