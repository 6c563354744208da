"""Which live faces get new ones where there is no time for all."""

from hypothesis import given
from hypothesis import strategies as st

from dp3_jax.detection.tracks import Observation
from dp3_jax.pipelines.live.new_face_limits import NewFaceLimits
from dp3_jax.pipelines.live.quality_controller import LEVELS, Level

ALL = Level(1, 640, 1)


def level(below=0, most=None):
    return Level(1, 640, 1, blurred_below=below, most_new=most)


def seen(**sizes):
    return {
        int(name[1:]): Observation(0, (0.0, 0.0, size / 2, size), None, 0.9)
        for name, size in sizes.items()
    }


def test_small_faces_are_blurred_and_steadily_so():
    limits = NewFaceLimits()
    assert limits.blurred(seen(t1=60, t2=200), ALL) == set()
    assert limits.blurred(seen(t1=60, t2=200), level(96)) == {1}
    assert limits.blurred(seen(t1=100, t2=200), level(96)) == {1}  # near the limit it stays so
    assert limits.blurred(seen(t1=120, t2=200), level(96)) == set()
    assert limits.blurred(seen(t1=100, t2=200), level(96)) == set()


def test_of_many_the_largest_get_new_faces_and_keep_them_while_others_are_hardly_larger():
    limits = NewFaceLimits()
    assert limits.blurred(seen(t1=60, t2=90, t3=80), level(most=2)) == {1}
    assert limits.blurred(seen(t1=100, t2=90, t3=80), level(most=2)) == {1}
    assert limits.blurred(seen(t1=130, t2=90, t3=80), level(most=2)) == {3}
    assert limits.blurred(seen(t1=130, t3=80), level(most=2)) == set()
    assert limits.blurred(seen(t1=130, t3=80), level(most=0)) == {1, 3}
    assert limits.blurred(seen(t1=130, t3=80), ALL) == set()


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(1, 9), st.floats(8, 300)),
            st.sampled_from(LEVELS),
        ),
        max_size=12,
    )
)
def test_there_are_never_more_new_faces_than_the_level_allows_nor_smaller_ones(frames):
    limits = NewFaceLimits()
    for sizes, one in frames:
        blurred = limits.blurred(seen(**{f"t{n}": size for n, size in sizes.items()}), one)
        assert blurred <= sizes.keys()
        new = sizes.keys() - blurred
        assert one.most_new is None or len(new) <= one.most_new
        assert all(sizes[number] >= one.blurred_below for number in new)
