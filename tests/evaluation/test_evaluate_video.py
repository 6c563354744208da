import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli import evaluate_video_command
from dp3_jax.cli.main import main
from dp3_jax.common.errors import UserError
from dp3_jax.detection.tracks import Observation, Track, Tracking, to_face
from dp3_jax.evaluation import evaluate_video, video_report, video_variants
from dp3_jax.pipelines.anonymize import anonymize_frame
from dp3_jax.pipelines.video import face_tracks, track_file
from dp3_jax.replacement import face_actions
from tests.face_photos import detector_or_skip
from tests.moving_portrait import FRAMES, SIDE, frame, observation, tracking, write, written


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return written(tmp_path_factory.mktemp("clip"))


def covered(method, leak=()):
    """A variant: the face covered in all frames but those in `leak`."""
    number = iter(range(FRAMES))

    def render(image, faces, cut):
        if next(number) in leak:
            return image
        tasks = [face_actions.FaceAction(to_face(seen), bytes(32)) for _, seen in faces]
        return anonymize_frame(image, tasks, face_actions.Settings(method=method))[0]

    return render


@pytest.fixture(scope="module")
def result(clip):
    variants = {
        "copy": lambda image, faces, cut: image,
        "solid": covered("solid"),
        "leak": covered("solid", leak=(6,)),
        "blur": covered("blur"),
    }
    return evaluate_video.evaluate(clip, variants, tracking(), verifiers=("sface",))


def test_the_source_itself_has_ratio_one_and_is_shown_in_every_frame(result):
    row = result["variants"]["copy"]
    for key in ("warping_error", "warping_error_own", "identity_all_pairs", "flicker"):
        assert row[key]["ratio"] == pytest.approx(1), key
    assert row["coverage"]["shown_faces"] == FRAMES
    assert row["coverage"]["shown_pixels"] == row["coverage"]["judged_pixels"] > 0
    assert row["face_found"]["value"] == 1


def test_one_leaking_frame_of_ten_is_counted_as_one(result):
    coverage = result["variants"]["leak"]["coverage"]
    assert coverage["shown_faces"] == 1
    assert coverage["shown_in_frames"] == [6]
    assert coverage["faces"] == coverage["judged_faces"] == FRAMES
    assert 0.08 < coverage["shown_pixels"] / coverage["judged_pixels"] < 0.12
    for obfuscated in ("solid", "blur"):
        row = result["variants"][obfuscated]["coverage"]
        assert row["shown_faces"] == row["shown_pixels"] == 0
        assert row["unchanged_around"] > 0.7


def test_a_leak_makes_a_steady_cover_unsteady_and_the_person_known(result):
    solid, leak = result["variants"]["solid"], result["variants"]["leak"]
    assert solid["warping_error"]["ratio"] < 0.1
    assert solid["flicker"]["value"] == pytest.approx(0, abs=1e-6)
    assert leak["warping_error"]["ratio"] > 10
    assert solid["warping_error_own"]["ratio"] < 0.1
    assert solid["face_found"]["value"] == 0
    best = [r["recognition"]["sface"]["own"]["best_cosine"] for r in (solid, leak)]
    assert best[1] > 0.3 + best[0]


def test_the_result_is_json_and_its_table_names_the_leak(result):
    report = video_report.format_report(json.loads(json.dumps(result)))
    assert "leak: the face of track 1 shows in frame 6\n" in report
    assert "solid: the face" not in report
    assert "1 of 10" in report
    assert "steadiest of all" in report
    assert "Nobody to compare with" in report
    assert max(len(line) for line in report.splitlines()) < 170


def test_people_who_are_not_in_the_clip_show_what_chance_gives(clip):
    impostors = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    found = evaluate_video.evaluate(
        clip, {}, tracking(), verifiers=("sface",), impostors=impostors, frames=4
    )
    row = found["variants"]["source"]["recognition"]["sface"]
    assert row["others"]["accepted"] == {**row["others"]["accepted"], "n": 3, "value": 0}
    assert row["own"]["accepted"]["value"] == 1
    assert row["area_under_curve"] == 1
    assert found["frames"] == 4


def test_people_on_screen_together_serve_as_each_others_strangers(clip, tmp_path):
    del clip  # skips where the networks are missing
    count = 6
    pair = write(tmp_path / "pair.mp4", [np.hstack([frame(n), frame(n)]) for n in range(count)])

    def beside(number):
        seen = observation(number)
        box = (seen.box[0] + SIDE, *seen.box[1:])
        return Observation(number, box, seen.keypoints + np.float32([SIDE, 0]), 1.0)

    first = Track(1, tuple(observation(n) for n in range(count)))
    together = Track(2, tuple(beside(n) for n in range(count)))
    tracks = Tracking(count, 2 * SIDE, SIDE, (), (first, together))
    found = evaluate_video.evaluate(pair, {}, tracks, verifiers=("sface",))
    row = found["variants"]["source"]
    assert row["faces"] == 2 * count
    assert row["recognition"]["sface"]["tracks"] == 2
    # Each is the other's twin here, so that the "stranger" is taken for the person.
    assert row["recognition"]["sface"]["others"]["accepted"]["n"] == 2 * count
    assert row["recognition"]["sface"]["others"]["accepted"]["value"] == 1


def test_an_encoded_file_is_compared_with_its_original(clip, tmp_path):
    render = covered("solid", leak=(3,))
    images = [render(frame(n), [(None, observation(n))], False) for n in range(FRAMES)]
    anonymized = write(tmp_path / "anonymized.mp4", images, crf=30)
    seen = []
    found = evaluate_video.compare(
        clip, anonymized, tracking(), verifiers=(), progress=lambda *counts: seen.append(counts)
    )
    assert found["variants"]["anonymized"]["coverage"]["shown_in_frames"] == [3]
    assert found["files"] == {"anonymized": [str(anonymized)]}
    assert seen[-1] == (FRAMES, FRAMES)
    assert "shows in frame 3" in video_report.format_report(found)


def test_numbered_pictures_are_compared_with_a_video_or_with_pictures(clip, tmp_path, capsys):
    pattern, tracks, report = (tmp_path / name for name in ("%05d.png", "tracks.json", "a.json"))
    track_file.write(tracks, tracking(), face_actions.Settings(), {}, None)
    for number in range(FRAMES):
        Image.fromarray(frame(number)).save(tmp_path / f"{number:05d}.png")
    line = ["evaluate-video", str(pattern), str(clip), "--rate", "25", "--tracks", str(tracks)]
    line += ["--json", str(report), "--frames", "2", "--quiet"]
    assert main(line) == 0
    by_itself = evaluate_video.compare(pattern, pattern, tracking(), verifiers=(), frames=2)
    for found, other in ((json.loads(report.read_text()), clip), (by_itself, pattern)):
        assert found["variants"]["anonymized"]["coverage"]["shown_faces"] == 2
        assert found["files"] == {"anonymized": [str(other)]}
    (tmp_path / "00001.png").write_bytes(b"no picture")
    capsys.readouterr()
    assert main(line) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "00001.png is not a JPEG" in said


def test_a_kept_face_is_not_looked_at(clip):
    found = evaluate_video.evaluate(
        clip, {"copy": lambda image, faces, cut: image}, tracking(keep=True), verifiers=()
    )
    assert found["tracks"] == 0
    assert found["variants"]["copy"]["coverage"]["shown_faces"] == 0
    assert found["variants"]["copy"]["warping_error"]["value"] is None
    video_report.format_report(found)


def test_supposed_faces_must_be_hidden_but_are_not_judged_for_steadiness(clip):
    known = tracking().tracks[0].observations
    filled = [dataclasses.replace(s, source="filled", confidence=0.0) for s in known[6:]]
    tracks = Tracking(FRAMES, SIDE, SIDE, (), (Track(1, (*known[:6], *filled)),))
    variants = {"leak": covered("solid", leak=(2, 8))}
    found = evaluate_video.evaluate(clip, variants, tracks, verifiers=("sface",))
    row = found["variants"]["leak"]
    assert row["coverage"]["shown_in_frames"] == [2, 8]
    assert row["coverage"]["faces"] == FRAMES
    assert row["recognition"]["sface"]["frames"] == 6
    assert row["face_found"]["value"] == pytest.approx(1 / 6)


def test_no_measure_reaches_over_a_cut(clip):
    def brighter(image, faces, cut):
        """Other light from frame 5 on."""
        brighter.frame += 1
        return np.minimum(image, 200) + np.uint8(50 * (brighter.frame > 5))

    flicker = []
    for cuts in ((), (5,)):
        brighter.frame = 0
        full = tracking()
        parted = Tracking(full.frames, SIDE, SIDE, cuts, full.tracks)
        found = evaluate_video.evaluate(
            clip, {"brighter": brighter}, parted, verifiers=(), frames=7
        )
        flicker.append(found["variants"]["brighter"]["flicker"]["value"])
    assert flicker[0] > 2 * flicker[1]


def test_what_does_not_belong_together_is_refused_in_one_line(clip, tmp_path):
    def refused(match, variants, tracks=None, **options):
        with pytest.raises(UserError, match=match):
            evaluate_video.evaluate(
                clip, variants, tracks or tracking(), **{"verifiers": (), **options}
            )

    short = write(tmp_path / "short.mp4", [frame(n) for n in range(FRAMES - 1)])
    long = write(tmp_path / "long.mp4", [frame(0)] * (FRAMES + 1))
    small = write(tmp_path / "small.mp4", [frame(n)[:128] for n in range(FRAMES)])
    refused("fewer frames", {"a": short})
    refused("more frames", {"a": long})
    refused("256x128", {"a": small})
    refused("cannot be called 'source'", {"source": short})
    refused("verifiers names 'nobody'; there are: sface, dlib, faceres", {}, verifiers=("nobody",))
    refused("track it again", {}, Tracking(FRAMES, 128, 128, (), ()))
    refused("has 10 frames, its tracks 12", {}, tracking(frames=12))


def test_several_files_of_one_name_are_several_keys(clip, tmp_path):
    """One of three keys shows the face in one frame: counts add up, measures are means."""
    many = []
    for key, leak in enumerate(((), (6,), ())):
        render = covered("solid", leak=leak)
        images = [render(frame(n), [(None, observation(n))], False) for n in range(FRAMES)]
        many.append(write(tmp_path / f"{key}.mp4", images))
    found = evaluate_video.evaluate(
        clip, {"keys": many, "alone": many[0]}, tracking(), verifiers=("sface",)
    )
    row = found["variants"]["keys"]
    assert row["coverage"]["shown_faces"] == 1 and row["coverage"]["faces"] == 3 * FRAMES
    own = [key["warping_error_own"]["value"] for key in row["keys"]]
    assert len(own) == 3 and row["warping_error_own"]["value"] == pytest.approx(np.mean(own))
    recognition = row["recognition"]["sface"]
    assert recognition["keys"] == 3 and recognition["frames"] == 3 * FRAMES
    assert recognition["keys_known"] == 1
    assert row["linked"]["sface"]["pairs"] == 3
    assert row["linked"]["sface"]["mean"]["linked"]["value"] == 1  # all show the same grey face
    alone = found["variants"]["alone"]
    assert "keys" not in alone and "linked" not in alone
    assert alone["recognition"]["sface"]["keys_known"] == 0
    report = video_report.format_report(json.loads(json.dumps(found)))
    assert "keys (3 keys)" in report and "1 of 3" in report and "Two keys of one track" in report


def test_a_copy_moves_as_its_source_does(clip):
    variants = {"copy": lambda image, faces, cut: image, "solid": covered("solid")}
    found = evaluate_video.evaluate(clip, variants, tracking(), verifiers=())
    if "motion" in found["not_measured"]:
        pytest.skip(found["not_measured"]["motion"])
    copy, solid = (found["variants"][name]["motion"] for name in ("copy", "solid"))
    assert copy["left_out"] == 0 and solid["left_out"] == FRAMES
    for name in ("yaw", "pitch", "mouth_opening", "eye_opening"):
        # The photo is only moved: nothing turns or speaks.
        assert copy[name]["value"] is None and copy[name]["reason"] == "no variance in the source"
        assert copy[name]["source_deviation"] == copy[name]["result_deviation"]
        assert copy[name]["frames"] == FRAMES and solid[name]["reason"] == "too few frames"


def test_a_longer_file_is_compared_as_far_as_asked(clip, tmp_path):
    longer = write(tmp_path / "longer.mp4", [frame(n) for n in range(FRAMES)])
    few = tracking(frames=4)
    found = evaluate_video.evaluate(clip, {"copy": longer}, few, verifiers=(), frames=4)
    assert found["frames"] == 4 and found["variants"]["copy"]["coverage"]["shown_faces"] == 4


def test_the_command_repeats_what_it_does_not_import():
    assert evaluate_video_command.KEYS == video_variants.KEYS


# The command: what is wrong in the call is said before the tracks are looked for.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.mp4", "--frames", "1"], "at least 2"),
        (["a.mp4", "--keys", "0"], "--keys is 1 to 64, not 0"),
        (["a.mp4", "a.mp4", "--keys", "2"], "--keys goes without ANONYMIZED"),
        (["a.mp4", "--also", "old.mp4"], "--also old.mp4 is not NAME=FILE"),
        (["a.mp4", "--also", "source=a.mp4"], "source has another meaning"),
        (["a.mp4", "--also", "old=none.mp4"], "no file none.mp4"),
        (["a.mp4", "--also", "old=small.mp4"], "small.mp4 is 256x128, the original 256x256"),
        (["a.mp4", "--also", "solid=a.mp4"], "there is a row of that name"),
        (["none.mp4"], "no file none.mp4"),
        (["a.mp4", "none.mp4"], "no file none.mp4"),
        (["a.mp4", "small.mp4"], "small.mp4 is 256x128, the original 256x256"),
        (["a.mp4", "--tracks", "none.json"], "none.json"),
        (["a.mp4", "--tracks", "small.json"], "small.json is of a clip of 256x128"),
        (["a.mp4", "--weights", "none.safetensors"], "none.safetensors"),
        (["a.mp4", "small.mp4", "--weights", "w"], "without ANONYMIZED"),
        (["a.mp4", "a.mp4", "--strangers", "none"], "no folder none"),
        (["a.mp4", "a.mp4", "--strangers", "empty"], "no photos of people in empty"),
        (["a.mp4", "a.mp4", "--strangers", "walls"], "no face found in any of"),
        (["a.mp4", "--json", "empty"], "is a folder"),
        (["a.mp4", "--json", "a.mp4"], "would overwrite"),
        (["a.mp4", "--json", "walls/a/1.jpg"], "ends like a photo"),
        (["a.mp4", "--rate", "25"], "--rate is of numbered pictures, and a.mp4 is none"),
        (["walls/a/%d.jpg", "--rate", "nan"], "--rate nan is no number"),
        (["walls/a/%03d.jpg"], "there is no picture walls/a/%03d.jpg"),
        (["walls/a/%d.jpg", "a.mp4"], "a.mp4 is 256x256, the original 250x250"),
        (["a.mp4", "--json", "walls/a/1.jpg/x.json"], "cannot write walls/a/1.jpg/x.json"),
    ],
)
def test_a_mistake_is_answered_before_tracks_are_looked_for(
    tmp_path, monkeypatch, capsys, arguments, says
):
    detector_or_skip()

    def never(*_):
        raise AssertionError("tracks are looked for")

    monkeypatch.setattr(face_tracks, "find_tracks", never)
    monkeypatch.chdir(tmp_path)
    write("a.mp4", [frame(0)] * 3)
    write("small.mp4", [frame(0)[:128]] * 3)
    track_file.write(
        "small.json", Tracking(3, SIDE, 128, (), ()), face_actions.Settings(), {}, None
    )
    for name in ("empty", "walls/a"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (250, 250), "grey").save("walls/a/1.jpg")
    status = main(["evaluate-video", *arguments])
    line = capsys.readouterr().err.strip()
    assert status == 2
    assert says in line and "\n" not in line
