"""Correcting photos: over HTTP, as the page does it; what is written, undone, refused and recovered."""

import json
from concurrent import futures

import numpy as np
import pytest
from starlette.testclient import TestClient

from dp3_jax.data import feedback
from dp3_jax.detection.detections import Detection
from dp3_jax.review import app, audit_file
from dp3_jax.review.models import Models
from tests import review_makers

TOKEN = "a-token-of-the-test"
NEW = [5.0, 5.0, 30.0, 36.0]  # px, a box in a corner without a face


class Page:
    """What the page asks, of a review that begins anew each time it is opened."""

    def __init__(self, folder, **more):
        self.session, self.exporter = review_makers.session(folder, **more)
        pool = futures.ThreadPoolExecutor(4)
        review = app.Review(self.session, self.exporter, "results")
        guarded = app.build_app(review, pool, token=TOKEN, port=8000)
        headers = {"X-DP3-Token": TOKEN}
        self.client = TestClient(guarded, base_url="http://127.0.0.1:8000", headers=headers)

    def id(self, name="photo_001.png"):
        return review_makers.by_name(self.session, name)

    def item(self, name="photo_001.png"):
        return self.client.get(f"/api/items/{self.id(name)}").json()

    def post(self, what, name="photo_001.png", status=200, **body):
        sent = {"revision": self.item(name)["revision"], **body}
        answer = self.client.post(f"/api/items/{self.id(name)}/{what}", json=sent)
        assert answer.status_code == status, answer.text
        return answer.json()

    def edit(self, action, **body):
        return self.post("edit", action=action, **body)


@pytest.fixture
def folder(tmp_path):
    review_makers.photos(tmp_path, 3)
    return tmp_path


@pytest.fixture
def result(folder):
    return folder / "results" / "photo_001.png"


def sidecar_of(result):
    return result.with_name(result.name + ".faces.json")


def test_the_list_says_where_to_look_first(folder):
    items = Page(folder).client.get("/api/session").json()["items"]
    risky = [item["name"] for item in items if item["risks"]]
    assert risky == ["photo_000.png"] == [max(items, key=lambda item: item["score"])["name"]]
    assert all(item["count"] == 1 and not item["problem"] for item in items)


def test_a_missed_face_is_covered_at_once_and_written_down(folder, result):
    page, before = Page(folder), review_makers.pixels(result)
    done = page.edit("missed", box=NEW)
    after = review_makers.pixels(result)
    changed = (before != after).any(-1)
    x, y, width, height = map(int, NEW)
    assert changed[y + height // 2, x + width // 2] and done["face"] == 1
    assert not changed[:, 60:].any()  # the other face is as it was
    assert [face["source"] for face in review_makers.faces(sidecar_of(result))][1:] == ["user"]
    (said,) = feedback.read(page.session.feedback_path)
    assert (said.action, list(said.box), said.frame) == ("missed", NEW, None)
    original = folder / "originals" / "photo_001.png"
    assert said.source == str(original) and said.sha256 == feedback.sha256_of(original)


def test_a_drawn_box_is_laid_on_the_face_that_a_detector_finds_there(folder, result, monkeypatch):
    points = np.float32([[12, 15], [24, 15], [18, 22], [13, 30], [23, 30]])
    found = Detection((6.0, 4.0, 26.0, 34.0), points, 0.4)
    monkeypatch.setattr(Models, "face_near", lambda *_: found)
    Page(folder).edit("missed", box=NEW)
    added = review_makers.faces(sidecar_of(result))[-1]
    assert added["box"] == [6, 4, 26, 34] and added["points"] == points.tolist()
    (entry,) = feedback.read(folder / "results.review" / feedback.NAME)
    assert list(entry.box) == NEW and entry.points == points.tolist()


def test_what_is_no_face_is_as_in_the_original_again(folder, result):
    page = Page(folder)
    page.edit("not_a_face", face=0)
    original = review_makers.pixels(folder / "originals" / "photo_001.png")
    assert np.array_equal(review_makers.pixels(result), original)
    assert review_makers.faces(sidecar_of(result)) == []


def test_each_way_of_treating_a_face(folder, result):
    page, shown = Page(folder), set()
    for body in ({"method": "blur"}, {"method": "pixelate"}, {"method": "solid"}):
        assert page.edit("method", face=0, **body)["faces"][0]["method"] == body["method"]
        shown.add(result.read_bytes())
    assert page.edit("keep", face=0)["faces"][0]["done"] == "kept"
    shown.add(result.read_bytes())
    assert len(shown) == 4
    assert page.edit("unkeep", face=0)["faces"][0]["done"] == "solid"


def test_another_person_and_the_same_person_are_matters_of_keys(folder, result):
    page = Page(folder)
    page.edit("missed", box=NEW)
    first, second = (face["key"] for face in review_makers.faces(sidecar_of(result)))
    page.edit("another_person", face=0)
    other = review_makers.faces(sidecar_of(result))[0]["key"]
    assert len({first, second, other}) == 3
    page.edit("same_person", face=1, other=0)
    assert [face["key"] for face in review_makers.faces(sidecar_of(result))] == [other, other]


def test_undo_and_redo_give_the_very_files_back(folder, result):
    page, states = Page(folder), []

    def state():
        return result.read_bytes(), json.loads(sidecar_of(result).read_text())["faces"]

    states.append(state())
    page.edit("missed", box=NEW)
    states.append(state())
    page.edit("method", face=0, method="blur")
    states.append(state())
    for way, expected in (("undo", 1), ("undo", 0), ("redo", 1), ("redo", 2)):
        page.post(way)
        assert state() == states[expected], way
    assert "nothing" in page.post("redo", status=400)["error"]
    said = [entry.action for entry in feedback.read(page.session.feedback_path)]
    assert said == ["missed", "method"]
    page.post("undo")
    assert [e.action for e in feedback.read(page.session.feedback_path)] == ["missed"]


def test_undo_goes_on_in_the_next_review(folder, result):
    before = result.read_bytes()
    Page(folder).edit("missed", box=NEW)
    page = Page(folder)
    assert page.item()["undo"] == "missed face added"
    page.post("undo")
    assert result.read_bytes() == before


def test_a_rating_names_the_face_and_its_key_and_no_pixel(folder, result):
    page = Page(folder)
    page.post("rate", face=0, verdicts=["eyes", "recognised"])
    (said,) = feedback.read(page.session.feedback_path)
    assert said.verdicts == ("eyes", "recognised") and said.done == "solid"
    assert said.key == review_makers.faces(sidecar_of(result))[0]["key"]
    assert Page(folder).item()["faces"][0]["verdicts"] == ["eyes", "recognised"]
    page.edit("another_person", face=0)
    assert page.item()["faces"][0]["verdicts"] is None  # of another rendering nothing was said
    assert page.post("rate", status=400, face=0, verdicts=["nose"])["error"]


def test_an_edit_of_what_has_changed_meanwhile_is_refused(folder, result):
    page = Page(folder)
    stale = page.item()["revision"]
    page.edit("keep", face=0)
    content = sidecar_of(result).read_bytes()
    sent = {"revision": stale, "action": "not_a_face", "face": 0}
    assert page.client.post(f"/api/items/{page.id()}/edit", json=sent).status_code == 409
    assert sidecar_of(result).read_bytes() == content


@pytest.mark.parametrize(
    "body",
    [
        {"action": "dance"},
        {"action": "keep", "face": 7},
        {"action": "keep"},
        {"action": "missed"},
        {"action": "missed", "box": [1, 2, -3, 4]},
        {"action": "method", "face": 0, "method": "melt"},
        {"action": "split", "face": 0, "frame": 1},
    ],
)
def test_what_cannot_be_done_changes_nothing(folder, result, body):
    page, files = Page(folder), (result.read_bytes(), sidecar_of(result).read_bytes())
    assert page.post("edit", status=400, **body)["error"]
    assert (result.read_bytes(), sidecar_of(result).read_bytes()) == files
    assert not page.session.feedback_path.exists()


def test_an_edit_that_cannot_be_rendered_is_taken_back(folder, result):
    page, before = Page(folder), sidecar_of(result).read_bytes()
    page.edit("keep", face=0)
    kept = sidecar_of(result).read_bytes()
    original = folder / "originals" / "photo_001.png"
    original.write_bytes(b"no picture")
    assert "photo_001" in page.post("edit", status=400, action="unkeep", face=0)["error"]
    assert sidecar_of(result).read_bytes() == kept != before
    assert page.item()["undo"] == "kept as it is"


@pytest.mark.parametrize("when", ["before the sidecar", "before the result"])
def test_what_a_kill_left_undone_is_done_by_the_next_review(folder, result, when, monkeypatch):
    page = Page(folder)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    place = "replace_file" if when == "before the sidecar" else "PhotoItem.render"
    module = "dp3_jax.review.session" if "replace" in place else "dp3_jax.review.photo_item"
    monkeypatch.setattr(f"{module}.{place}", die)
    # A kill runs no more code: neither the taking back of what could not be rendered.
    monkeypatch.setattr(page.session, "_take_back", lambda *_: None)
    with pytest.raises(Killed):
        seen = page.item()["revision"]
        page.session.edit(page.id(), {"revision": seen, "action": "missed", "box": NEW})
    monkeypatch.undo()
    again = Page(folder)
    assert again.item()["pending"]
    assert again.session.recover() == [] and not again.item()["pending"]
    assert len(review_makers.faces(sidecar_of(result))) == 2
    grey = review_makers.pixels(result)[20:26, 18:24].std((0, 1))
    assert (grey < 1).all()  # the missed face is covered


def test_a_sidecar_that_somebody_has_written_meanwhile_is_left_alone(folder, result):
    page = Page(folder)
    page.edit("missed", box=NEW)
    position = page.session.history.position(page.id())
    assert position.rendered
    review_makers.photos(folder, 3)  # anonymized anew
    content = sidecar_of(result).read_bytes()
    again = Page(folder)
    again.session.recover()
    assert sidecar_of(result).read_bytes() == content
    assert again.post("undo", status=409)["error"]
    again.edit("keep", face=0)
    again.post("undo")
    assert review_makers.faces(sidecar_of(result)) == json.loads(content)["faces"]


def test_marks_stay_and_export_holds_results_and_nothing_else(folder):
    page = Page(folder)
    page.post("mark", reviewed=True)
    page = Page(folder)
    assert page.item()["reviewed"]
    page.exporter.run(True)
    released = folder / "results.release"
    assert [p.name for p in released.rglob("*")] == ["photo_001.png"]
    assert page.exporter.progress()["left"] == 2
    page.exporter.run(False)
    assert sorted(p.name for p in released.rglob("*")) == [f"photo_00{n}.png" for n in range(3)]
    assert (released / "photo_000.png").read_bytes() == (
        folder / "results" / "photo_000.png"
    ).read_bytes()


@pytest.mark.parametrize(
    "wrong", ['{"format"', '{"format": "dp3 faces 1"}', "no box", "a face too few"]
)
def test_a_sidecar_that_was_spoiled_by_hand_spoils_no_other(folder, result, wrong):
    content = json.loads(sidecar_of(result).read_text())
    del content["faces"][0]["box"]
    sidecar_of(result).write_text(json.dumps(content) if wrong == "no box" else wrong)
    page = Page(folder)
    listed = page.client.get("/api/session").json()["items"]
    assert [bool(one["error"]) for one in listed] == [False, True, False]
    assert page.item("photo_000.png")["faces"]


def test_a_face_that_was_added_by_hand_needs_a_box_alone(folder, result):
    content = json.loads(sidecar_of(result).read_text())
    content["faces"].append({"box": NEW})
    sidecar_of(result).write_text(json.dumps(content))
    page = Page(folder)
    assert page.item()["faces"][1]["confidence"] == 1.0
    page.edit("keep", face=1)
    assert len(review_makers.faces(sidecar_of(result))[1]["key"]) == 64


def test_what_is_not_anonymized_yet_is_said_and_not_exported(folder):
    session, exporter = review_makers.opened(folder / "originals")
    assert {one["count"] for one in session.summary()} == {None}
    exporter.run(False)
    assert len(exporter.progress()["problems"]) == 3 and not exporter.progress()["folder"]


def test_what_an_audit_found_comes_first_and_says_where(folder):
    report = folder / "report" / "audit.json"
    report.parent.mkdir()
    path = str(folder / "results" / "photo_002.png")
    faces = [
        {"box": [1, 2, 30, 30], "state": "shown", "recognised_by": ["sface"], "risk": 1.0},
        {"box": [60, 30, 40, 50], "state": "changed", "recognised_by": [], "risk": 0.0},
    ]
    entry = {"name": "photo_002.png", "anonymized": path, "faces": faces, "risk": 1.0}
    report.write_text(json.dumps({"files": [entry, {"odd": 1}, 7]}))
    assert audit_file.look_for(folder) == report
    items = [work.item for work in Page(folder).session.works.values()]
    page = Page(folder, audit=audit_file.read(report, items))
    listed = page.client.get("/api/session").json()["items"]
    assert max(listed, key=lambda item: item["score"])["name"] == "photo_002.png"
    audit = page.item("photo_002.png")["audit"]
    assert [face["missed"] for face in audit["faces"]] == [True] and "sface" in audit["text"]


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {"X-DP3-Token": "wrong"}},
        {"headers": {"X-DP3-Token": ""}},
        {"headers": {"Host": "evil.example:8000"}},
        {"headers": {"Host": "127.0.0.1.evil.example:8000"}},
        {"headers": {"Origin": "http://evil.example"}},
    ],
)
@pytest.mark.parametrize("path", ["/", "/static/review.js", "/api/session", "/nothing"])
def test_only_the_page_of_this_run_is_answered(folder, path, change):
    client = Page(folder).client
    assert client.get(path, **change).status_code == 403
    assert client.post(path, **change).status_code == 403


def test_the_token_in_the_address_opens_the_page_and_nothing_comes_from_elsewhere(folder):
    client = Page(folder).client
    del client.headers["X-DP3-Token"]
    answer = client.get("/", params={"token": TOKEN})
    assert answer.status_code == 200 and "Originals are shown on this machine only" in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    for name in ("review.js", "review.css"):
        text = client.get(f"/static/{name}", params={"token": TOKEN}).text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert client.get("/static/../session.py", params={"token": TOKEN}).status_code == 404


def test_pictures_are_what_lies_on_the_disk(folder):
    page = Page(folder)
    for side, place in (("before", "originals"), ("after", "results")):
        answer = page.client.get(f"/api/items/{page.id()}/{side}/picture", params={"size": 1800})
        assert answer.headers["content-type"] == "image/jpeg"
        shown = review_makers.read(answer.content)
        expected = review_makers.pixels(folder / place / "photo_001.png")
        assert np.abs(shown.astype(int) - expected).mean() < 4
    part = page.client.get(
        f"/api/items/{page.id()}/after/picture", params={"crop": "70,40,-9999,20"}
    )
    assert part.status_code == 200
    assert page.client.get(f"/api/items/{page.id()}/thumb").status_code == 200
    assert page.client.get("/api/items/nobody/thumb").status_code == 404
