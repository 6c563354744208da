"""Training pairs out of video: what is found in clips, how it is read back, and what mistakes say."""

import pathlib

import cv2
import numpy as np
import pytest

from dp3_jax.common.errors import UserError
from dp3_jax.data import DataOptions, clip_people, clip_views, clips
from dp3_jax.detection.detections import Detection
from dp3_jax.models import embedders
from dp3_jax.vision import flow, masks
from tests.face_photos import astronaut, detector_or_skip
from tests.vision.test_flow import texture


def write_clip(path, frames):
    """An AVI of u8[h, w, 3] frames, nearly lossless."""
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()


def test_pairs_are_taken_at_a_stride_and_some_frames_apart(tmp_path):
    frames = [np.full((32, 48, 3), 5 * number, np.uint8) for number in range(45)]
    write_clip(tmp_path / "a.avi", frames)
    numbers = [tuple(round(float(f.mean()) / 5) for f in pair)
               for pair in clips.frame_pairs(tmp_path / "a.avi")]  # fmt: skip
    assert numbers == [(0, 1), (10, 12), (20, 23), (30, 31), (40, 42)]


def test_a_views_flow_leads_back_to_the_first_view():
    scene = texture(168, 168)
    first, second = scene[20:148, 20:148], scene[22:150, 17:145]  # the scene moved by (3, -2)
    pair = clips.view_pair(first, second)
    assert [part.dtype for part in pair] == [np.uint8, np.uint8, np.float16, np.bool_]
    motion, seen = pair[2].astype(np.float32), pair[3]
    np.testing.assert_allclose(np.median(motion, (0, 1)), [-3, 2], atol=0.1)
    warped, _ = flow.warp(first, motion)
    assert np.abs(warped.astype(float) - second)[seen].mean() < 3
    assert seen[masks.inference_mask()[..., 0] > 0].mean() > 0.95


def test_a_cut_gives_no_pair():
    assert clips.view_pair(texture(128, 128, 0), texture(128, 128, 1)) is None


def test_faces_of_neighbouring_frames_are_matched_by_their_place():
    def face(x, y, size=40):
        return Detection((x, y, size, size), None, 0.9)

    before = [face(0, 0), face(100, 0), face(300, 0)]
    after = [face(104, 3), face(2, 0), face(500, 0)]
    assert list(clips.same_faces(before, after)) == [(before[0], after[1]), (before[1], after[0])]
    assert list(clips.same_faces(before, [])) == list(clips.same_faces([], after)) == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, shared_data):
    """(file of pairs of the first frames of a real clip, the line for the console)."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "deep").mkdir()
    capture = cv2.VideoCapture(str(shared_data / "video" / "lp_source_s18.mp4"))
    frames = [capture.read()[1][:, :, ::-1] for _ in range(13)]
    write_clip(folder / "deep" / "face.avi", [f[::2, ::2] for f in frames])
    (folder / "broken.mp4").write_bytes(b"no video at all")
    line = clips.prepare_clips(folder, folder / "pairs.npz")
    return folder / "pairs.npz", line


def test_a_real_clip_gives_aligned_faces_with_a_flow_that_explains_their_motion(prepared):
    path, line = prepared
    with np.load(path) as opened:
        first, second = opened["first"], opened["second"]
        motion, seen, names = opened["flow"].astype(np.float32), opened["visible"], opened["clip"]
    assert line.startswith("2 pairs of 1 people (at least) in 1 clips")
    assert set(names) == {str(pathlib.Path("deep") / "face.avi")}
    assert first.shape == second.shape == (2, 128, 128, 3) and seen.mean() > 0.5
    for a, b, f, v in zip(first, second, motion, seen, strict=True):
        warped = flow.warp(a, f)[0].astype(float)
        assert np.abs(warped - b)[v].mean() <= np.abs(a.astype(float) - b)[v].mean() + 0.5
        # Both are aligned: what is left to move is a few pixels.
        assert np.median(np.linalg.norm(f, axis=-1)) < 5


def pair_file(path, count=3, size=16):
    random = np.random.default_rng(0)
    views = random.integers(0, 256, (2, count, size, size, 3)).astype(np.uint8)
    arrays = {
        "first": views[0],
        "second": views[1],
        "flow": random.normal(size=(count, size, size, 2)).astype(np.float16),
        "visible": random.random((count, size, size)) < 0.7,
    }
    np.savez(path, **arrays)
    return arrays


def opened(path, **changes):
    settings = {"image_size": 16, "batch_size": 4, "seed": 1, "flip": False} | changes
    return clips.ClipPairs(path, **settings)


def test_batches_are_a_function_of_their_number_and_shared_by_processes(tmp_path):
    pair_file(tmp_path / "a.npz")
    whole = opened(tmp_path / "a.npz")
    parts = [opened(tmp_path / "a.npz", process_index=i, process_count=2) for i in (0, 1)]
    assert whole.shapes["clip_flow"] == ((4, 16, 16, 2), np.float16)
    for number in (7, 0):
        batch, again = whole.batch(number), opened(tmp_path / "a.npz").batch(number)
        halves = [part.batch(number) for part in parts]
        for name, (shape, dtype) in whole.shapes.items():
            assert batch[name].shape == shape and batch[name].dtype == dtype
            np.testing.assert_array_equal(batch[name], again[name])
            np.testing.assert_array_equal(batch[name], np.concatenate([h[name] for h in halves]))


def test_every_pair_comes_once_in_an_epoch(tmp_path):
    arrays = pair_file(tmp_path / "a.npz")
    pairs = opened(tmp_path / "a.npz", batch_size=1)
    found = {pairs.batch(number)["clip_first"].tobytes() for number in range(3)}
    assert found == {image.tobytes() for image in arrays["first"]}


def test_a_mirrored_pair_has_the_mirrored_flow(tmp_path):
    arrays = pair_file(tmp_path / "a.npz", count=1)
    pairs = opened(tmp_path / "a.npz", batch_size=1, flip=True)
    batches = [pairs.batch(number) for number in range(8)]
    seen = set()
    for batch in batches:
        mirrored = not np.array_equal(batch["clip_first"][0], arrays["first"][0])
        seen.add(mirrored)
        # Sampling at p + flow sees the same colours, mirrored.
        before = flow.warp(arrays["first"][0], arrays["flow"][0].astype(np.float32))[0]
        after = flow.warp(batch["clip_first"][0], batch["clip_flow"][0].astype(np.float32))[0]
        after = after[:, ::-1] if mirrored else after
        assert np.abs(after.astype(int) - before).mean() < 1
    assert seen == {True, False}


def units(rng, count, size=32):
    rows = rng.normal(size=(count, size))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_clips_that_share_a_person_have_the_same_people():
    rng = np.random.default_rng(0)
    a, b, c, d = (person + 0.1 * units(rng, 6) for person in units(rng, 4)[:, None])
    faces = {"a": a, "ab": np.concatenate([a, b]), "b": b, "c": c, "empty": a[:0], "d": d}
    numbers = clip_people.numbered(faces)
    assert numbers["a"] == numbers["ab"] == numbers["b"] == 0
    assert len({numbers[name] for name in ("a", "c", "empty", "d")}) == 4
    # One face among many of somebody else is rather a wrong detection than a shared person.
    alone = clip_people.numbered({"a": a, "c": np.concatenate([c, a[:1]])})
    assert alone == {"a": 0, "c": 1}


@pytest.mark.parametrize("counts", [(5, 5), (1, 99), (99, 1), (10, 20, 30, 40), (1,) * 50])
def test_whole_people_are_held_out_and_somebody_is_left(counts):
    people = np.repeat(np.arange(len(counts)), counts)
    out = clip_people.held_out(people, 0.2)
    assert not set(people[out]) & set(people[~out])
    assert out.any() and not out.all()
    if len(counts) > 3:
        assert 0 < out.mean() <= 0.2
    np.testing.assert_array_equal(out, clip_people.held_out(people, 0.2))
    assert not clip_people.held_out(people, 0.0).any()


def test_nobody_is_held_out_of_one():
    assert not clip_people.held_out([3, 3, 3], 0.5).any()
    assert not clip_people.held_out([], 0.5).any()


def test_people_who_are_held_out_are_in_no_batch_and_the_others_all(tmp_path):
    count, people = 12, np.repeat([0, 1, 2, 3], 3)
    arrays = pair_file(tmp_path / "a.npz", count=count)
    np.savez(tmp_path / "b.npz", **arrays, person=people, clip=people.astype(str))
    pairs = opened(tmp_path / "b.npz", held_out=0.3, batch_size=1)
    out = {image.tobytes() for image in pairs.heldout["clip_first"]}
    seen = {pairs.batch(number)["clip_first"].tobytes() for number in range(pairs.count)}
    assert len(out) == 3 and len(seen) == 9 and not out & seen
    views = clip_views.open_clip_views(
        DataOptions(source="clips", path=str(tmp_path / "b.npz"), image_size=16, clips_held_out=0.3)
    )
    assert (views.partitions == 0).sum() == 18 and (views.partitions == 1).sum() == 6
    assert not set(views.identities[views.partitions == 0]) & set(
        views.identities[views.partitions == 1]
    )
    shown = {views.load(i, None).tobytes() for i in np.flatnonzero(views.partitions == 1)}
    assert out <= shown and len(shown) == 6
    assert len(set(views.names)) == 2 * count


def test_a_folder_with_one_person_cannot_be_split(tmp_path):
    arrays = pair_file(tmp_path / "a.npz", count=4)
    np.savez(tmp_path / "one.npz", **arrays, person=np.zeros(4, int), clip=np.array(list("aabb")))
    with pytest.raises(UserError, match=r"4 pairs in .*one\.npz are all of one person.*held_out=0"):
        opened(tmp_path / "one.npz", held_out=0.2)
    assert opened(tmp_path / "one.npz", held_out=0.0).count == 4
    with pytest.raises(UserError, match=r"clips_held_out is 1\.0; it must be"):
        DataOptions(source="clips", path="x", clips_held_out=1.0)


def test_the_pairs_of_a_folder_are_found_once_and_again_when_it_changes(tmp_path, monkeypatch):
    """Both clips show one woman, so they cannot be split; without a split they are trained on."""
    detector_or_skip()
    monkeypatch.setattr(clips, "kept_path", lambda folder: tmp_path / "kept" / f"{folder.name}.npz")
    folder = tmp_path / "clips"
    folder.mkdir()
    portrait = [astronaut()[20:276, 90 + 2 * n : 346 + 2 * n] for n in range(3)]
    write_clip(folder / "a.avi", portrait)
    found = clips.pairs_file(folder)
    assert found.is_file()
    with monkeypatch.context() as never:
        never.setattr(clips, "all_pairs", None)
        assert clips.pairs_file(folder) == found
    write_clip(folder / "b.avi", [frame[:, ::-1] for frame in portrait])
    assert opened(folder, image_size=128, batch_size=1).count == 2
    try:
        embedders.SFace()
    except UserError as error:
        pytest.skip(f"who is in two clips cannot be told: {error}")
    with pytest.raises(UserError, match=r"the 2 pairs in .* are all of one person"):
        opened(folder, image_size=128, held_out=0.2)


def test_mistakes_are_named(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("text.npz", "nowhere.npz"):
        with pytest.raises(UserError, match=rf"cannot read pairs .*{name}.*dp3_jax\.data\.clips"):
            opened(tmp_path / name)
    pair_file(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"16 px, config\.data\.image_size is 128"):
        opened(tmp_path / "a.npz", image_size=128)
    with pytest.raises(UserError, match="no video files"):
        clips.prepare_clips(tmp_path, tmp_path / "out.npz")
    with pytest.raises(UserError, match="no video files"):
        opened(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    with pytest.raises(
        UserError, match=r"none of the 1 clips can be read; the first: .*broken\.mp4"
    ):
        clips.prepare_clips(tmp_path, tmp_path / "out.npz")
    frames = [np.zeros((64, 64, 3), np.uint8)] * 3
    write_clip(tmp_path / "black.avi", frames)
    with pytest.raises(UserError, match="no face was found"):
        clips.prepare_clips(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
