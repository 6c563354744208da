"""Batches from files and from packed data: equal, exact on resuming, and robust to bad files."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from dp3_jax.common import prefetch as prefetching
from dp3_jax.common.errors import UserError
from dp3_jax.common.prefetch import prefetch
from dp3_jax.data import DataOptions, load_arrays, open_feed, prepare
from tests import data_makers as make

COUNT = 40
DAMAGED = (3, 4, 17)


def options(path, source="celeba", **changes):
    changes = {"image_size": 16, "train_examples": 0, "max_unreadable": 0.2, **changes}
    return DataOptions(source=source, path=str(path), **changes)


def batches(choice, number, start=0, size=8, **process):
    feed = open_feed(choice, "train", batch_size=size, seed=5, **process)
    iterator = feed.batches(start)
    taken = [batch["image"] for batch in itertools.islice(iterator, number)]
    iterator.close()
    return np.stack(taken)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make.celeba(tmp_path_factory.mktemp("files"), COUNT, damaged=DAMAGED)


@pytest.fixture(scope="module")
def packed(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "set"
    summary = prepare(options(files), path)
    assert "40 images (24 train, 8 validation, 8 test)" in summary
    assert "3 unreadable" in summary
    return path


@pytest.fixture(autouse=True, scope="module")
def _needs_tensorflow():
    pytest.importorskip("tensorflow")


@pytest.mark.parametrize("size", [8, 20])
@pytest.mark.parametrize(
    "changes", [{}, {"flip": True}, {"train_examples": 10}, {"subset_seed": 3}]
)
def test_files_and_their_packed_form_give_identical_batches(files, packed, changes, size):
    direct = batches(options(files, **changes), 7, size=size)
    mapped = batches(options(packed, "packed", **changes), 7, size=size)
    assert np.array_equal(direct, mapped)


@pytest.mark.parametrize("source", ["celeba", "packed", "shapes"])
def test_resuming_continues_the_sequence(files, packed, source):
    path = {"celeba": files, "packed": packed, "shapes": ""}[source]
    choice = options(path, source, flip=True, train_examples=20)
    assert np.array_equal(batches(choice, 9)[4:], batches(choice, 5, start=4))


@pytest.mark.parametrize("source", ["celeba", "packed"])
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_give_the_batches_of_one(files, packed, source, processes):
    choice = options(files if source == "celeba" else packed, source, flip=True)
    parts = [
        batches(choice, 4, process_index=index, process_count=processes)
        for index in range(processes)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), batches(choice, 4))


def test_an_epoch_shows_every_readable_image_and_stand_ins_for_the_others(files):
    choice = options(files)
    rows = batches(choice, 3).reshape(24, -1)
    readable = load_arrays(choice, "train")
    assert not set(readable.names) & {make.names(COUNT)[index] for index in DAMAGED}
    counts = {image.tobytes(): 0 for image in readable.images}
    for row in rows:
        counts[row.tobytes()] += 1
    # 000004 and 000005 are damaged: 000006 stands in for both; 000019 for 000018.
    wanted = dict.fromkeys(readable.names, 1) | {"000006.jpg": 3, "000019.jpg": 2}
    assert list(counts.values()) == [wanted[name] for name in readable.names]


def test_flips_mirror_about_half_of_the_training_images_only(files):
    plain, flipped = batches(options(files), 6), batches(options(files, flip=True), 6)
    plain, flipped = (part.reshape(-1, 16, 16, 3) for part in (plain, flipped))
    same = np.array([np.array_equal(a, b) for a, b in zip(plain, flipped, strict=True)])
    mirrored = [np.array_equal(a[:, ::-1], b) for a, b in zip(plain, flipped, strict=True)]
    assert np.array_equal(~same, mirrored)
    assert 0.2 < np.mean(mirrored) < 0.8
    validation = [
        next(open_feed(options(files, flip=flip), "validation", batch_size=8, seed=5).batches())
        for flip in (False, True)
    ]
    assert np.array_equal(validation[0]["image"], validation[1]["image"])


def test_gathering_on_the_device_gives_the_batches(packed):
    for examples in (0, 10):
        choice = options(packed, "packed", flip=True, train_examples=examples, on_device=True)
        feed = open_feed(choice, "train", batch_size=8, seed=5)
        array = np.asarray(feed.device_arrays)
        assert array.shape == (feed.num_examples, 16, 16, 3)
        for (rows, flips), batch in zip(
            itertools.islice(feed.indices(2), 5), feed.batches(2), strict=False
        ):
            assert rows.dtype == np.int32
            images = np.where(flips[:, None, None, None], array[rows][:, :, ::-1], array[rows])
            assert np.array_equal(images, batch["image"])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("limit", [0, 5])
def test_whole_splits_are_equal_from_files_and_packed(files, packed, split, limit):
    direct = load_arrays(options(files), split, limit=limit)
    mapped = load_arrays(options(packed, "packed"), split, limit=limit)
    assert np.array_equal(direct.images, mapped.images)
    assert np.array_equal(direct.identities, mapped.identities)
    assert direct.names == mapped.names
    assert list(direct.names) == sorted(direct.names)


def test_a_small_packed_set_is_the_same_subset_and_nests(files, tmp_path):
    prepare(options(files, train_examples=12, subset_seed=4), tmp_path / "set")
    for wanted in (12, 6):
        changes = {"train_examples": wanted, "subset_seed": 4}
        direct = batches(options(files, **changes), 4)
        assert np.array_equal(direct, batches(options(tmp_path / "set", "packed", **changes), 4))
    for changes in ({"train_examples": 13, "subset_seed": 4}, {"train_examples": 12}):
        with pytest.raises(UserError, match="holds 12 of 24 train images"):
            batches(options(tmp_path / "set", "packed", **changes), 1)


def test_other_settings_than_the_packed_ones_are_shown(packed):
    with pytest.raises(UserError, match="image_size is 16, the config asks for 32"):
        batches(options(packed, "packed", image_size=32), 1)
    with pytest.raises(UserError, match=r"crop is \[0, 20, 178, 198\], the config asks for None"):
        batches(options(packed, "packed", crop=None), 1)


@pytest.mark.parametrize("source", ["celeba", "packed"])
def test_too_many_unreadable_files_stop_the_run_with_names(files, packed, source, tmp_path):
    choice = options(files if source == "celeba" else packed, source, max_unreadable=0.1)
    with pytest.raises(UserError, match=r"3 of the 24 train files .* 2 may .* 0000\d\d.jpg"):
        batches(choice, 4)
    if source == "celeba":
        with pytest.raises(UserError, match="3 of the 24 train files"):
            prepare(choice, tmp_path / "set")
        assert list(tmp_path.iterdir()) == []


def test_preparing_again_keeps_equal_settings_and_refuses_others(files, packed, tmp_path):
    before = (packed / "images.npy").stat()
    assert "already packed" in prepare(options(files), packed)
    assert (packed / "images.npy").stat() == before
    with pytest.raises(UserError, match="image_size is 16, the config gives 32"):
        prepare(options(files, image_size=32), packed)
    make.write(tmp_path / "home" / "letter.txt", "dear")
    with pytest.raises(UserError, match="is not packed data"):
        prepare(options(files), tmp_path / "home")
    with pytest.raises(UserError, match="packed already"):
        prepare(options(packed, "packed"), tmp_path / "again")


def spoil_format(path):
    settings = json.loads((path / "settings.json").read_text()) | {"format": 99}
    (path / "settings.json").write_text(json.dumps(settings))


def cut(name):
    return lambda path: os.truncate(path / name, (path / name).stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut("images.npy"), "cannot read"),
        (cut("index.npz"), "cannot read"),
        (cut("settings.json"), "cannot read"),
        (lambda path: (path / "images.npy").unlink(), "No such file"),
        (lambda path: (path / "settings.json").unlink(), "no packed data in"),
        (lambda path: (path / "settings.json").write_text("[]"), "cannot read"),
        (spoil_format, "has format 99"),
    ],
)
def test_damaged_packed_data_are_one_line(files, tmp_path, spoil, message):
    prepare(options(files), tmp_path / "set")
    spoil(tmp_path / "set")
    with pytest.raises(UserError, match=message) as caught:
        batches(options(tmp_path / "set", "packed"), 1)
    assert "--mode=prepare" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_while_packing_is_one_line_and_leaves_nothing(files, tmp_path):
    """A limit on file size stops the write in the middle, as a full disk does."""
    program = (
        "import resource, sys\n"
        "from dp3_jax.data import DataOptions, prepare\n"
        "from dp3_jax.common.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "choice = DataOptions(source='celeba', path=sys.argv[1], image_size=16, max_unreadable=1)\n"
        "try:\n    prepare(choice, sys.argv[2])\n"
        "except UserError as error:\n    print(error)\n"
    )
    output = run_python(program, str(files), str(tmp_path / "set"))
    assert output.startswith(f"cannot write {tmp_path / 'set'}: File too large")
    assert output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def run_python(program, *arguments):
    root = pathlib.Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def test_packed_data_and_drawings_need_no_tensorflow(files, packed):
    program = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('tensorflow', 'tensorflow_datasets', 'cv2'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "from dp3_jax.data import *\n"
        "shared = dict(image_size=16, train_examples=0, max_unreadable=1)\n"
        "packed = DataOptions(source='packed', path=sys.argv[1], **shared)\n"
        "shapes = DataOptions(source='shapes', **shared)\n"
        "for choice in (packed, shapes):\n"
        "    feed = open_feed(choice, 'train', batch_size=4, seed=0)\n"
        "    print(next(feed.batches())['image'].sum())\n"
        "    print(load_arrays(choice, 'validation', limit=3).images.shape)\n"
        "files = DataOptions(source='celeba', path=sys.argv[2], **shared)\n"
        "print(prepare(files, sys.argv[1]).split()[0])\n"
        "try:\n    next(open_feed(files, 'train', batch_size=4, seed=0).batches())\n"
        "except Exception as error:\n    print(error)\n"
    )
    output = run_python(program, str(packed), str(files)).splitlines()
    assert len(output) == 6
    assert output[4] == "already"
    assert "needs TensorFlow" in output[5]


def test_the_real_photos_are_fed_as_pillow_makes_them(shared_data):
    choice = DataOptions(source="celeba", path=str(shared_data / "celeba"))
    feed = open_feed(choice, "train", batch_size=64, seed=0)
    assert (feed.num_examples, feed.image_size) == (5000, 128)
    assert "5000 of 10000 train images" in feed.summary
    batch = next(feed.batches(100))["image"]
    from dp3_jax.data import order
    from dp3_jax.data.celeba import open_celeba
    from dp3_jax.data.decode import load_image

    catalog = open_celeba(choice)
    examples = catalog.select("train", choice)[0][order.elements(0, 6400, 64, 5000)[0]]
    folder = shared_data / "celeba" / "img_align_celeba"
    for image, example in zip(batch, examples, strict=True):
        assert np.array_equal(image, load_image(folder / catalog.names[example], choice))


def test_prefetching_keeps_order_and_hands_on_exceptions():
    def failing():
        yield 1
        yield 2
        raise UserError("the third is broken")

    iterator = prefetch(failing(), depth=4)
    assert [next(iterator), next(iterator)] == [1, 2]
    with pytest.raises(UserError, match="the third is broken"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    assert list(prefetch(range(100), depth=3)) == list(range(100))


def test_prefetching_runs_ahead_by_its_depth_and_stops_when_closed():
    made, closed = [], threading.Event()

    def endless():
        try:
            for number in itertools.count():
                made.append(number)
                yield number
        finally:
            closed.set()

    threads = threading.active_count()
    with prefetch(endless(), depth=3) as iterator:
        assert next(iterator) == 0
        while len(made) < 5:  # one taken, three kept, one being made; pytest's timeout ends a hang
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(made) == 5
    assert closed.is_set()
    assert threading.active_count() == threads


def test_prefetching_counts_the_time_spent_waiting(monkeypatch):
    """By a clock that a source moves on once somebody waits for it."""
    now, looked = [0.0], threading.Event()

    def clock():
        looked.set()
        return now[0]

    def slow():
        looked.wait()
        now[0] += 7.0
        yield 0

    class Seconds:
        perf_counter = staticmethod(clock)

    monkeypatch.setattr(prefetching, "time", Seconds)
    with prefetch(slow(), depth=1) as iterator:
        assert iterator.seconds_waiting == 0
        assert list(iterator) == [0]
        assert iterator.seconds_waiting == 7.0
