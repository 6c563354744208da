"""The page in a real browser: two hundred photos and a clip, by mouse, by keyboard alone, through a kill."""

import json
import shutil
import signal

import pytest

from dp3_jax.data import feedback
from tests import review_makers
from tests.review.serving import serving

PHOTOS = 200
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'dp3_jax[browser-test]'"
    )
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_api.sync_playwright() as playwright:
        try:
            # Chromium refuses to run as root, as tests may, with its sandbox.
            opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"needs a browser, such as Debian's chromium: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("review")
    review_makers.photos(path, PHOTOS)
    review_makers.clip(path)
    return path


class Page:
    """The page as a person sees it, and what it asked for."""

    def __init__(self, browser, address, **more):
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **more)
        self.problems, self.hosts = [], set()
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))
        self.page.goto(address)
        self.page.wait_for_selector("#after image", state="attached")

    def open(self, name):
        self.page.click(f"#items button[title='{name}']")
        self.page.wait_for_selector(f"h1:text-is('{name}')")
        self.page.wait_for_selector("#after image", state="attached")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def says(self, text):
        self.page.wait_for_selector(f"#status:has-text('{text}')")

    def drag(self, start, stop):
        """Over a pane, in shares of its width and height."""
        frame = self.page.locator("#before").bounding_box()
        places = [
            (frame["x"] + x * frame["width"], frame["y"] + y * frame["height"])
            for x, y in (start, stop)
        ]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        self.page.mouse.move(*places[1], steps=4)
        self.page.mouse.up()


def faces(folder, name):
    return review_makers.faces(folder / "results" / f"{name}.faces.json")


def serve(folder):
    return serving(folder / "results", "--originals", folder / "originals")


def draw_by_mouse(seen, folder):
    """A box round a missed face."""
    result = folder / "results" / "photo_007.png"
    seen.open(result.name)
    before = result.read_bytes()
    seen.page.click("#draw")
    seen.drag((0.05, 0.1), (0.3, 0.5))
    seen.says("Done and written")
    assert result.read_bytes() != before
    x, y, width, height = faces(folder, result.name)[1]["box"]
    assert x == pytest.approx(8, abs=2) and width == pytest.approx(40, abs=2)
    assert y == pytest.approx(12, abs=2) and height == pytest.approx(48, abs=2)


def correct_by_keyboard(seen, folder):
    """The next photo: a box, a method, a rating, undo; reviewed."""
    seen.press("ArrowDown")
    seen.page.wait_for_selector("h1:text-is('photo_008.png')")
    seen.page.wait_for_selector("#face-0")
    seen.press("d", "ArrowLeft", "ArrowLeft", "Shift+ArrowDown", "Enter")
    seen.says("Done and written")
    seen.page.wait_for_selector("#face-1[aria-pressed=true]")
    seen.press("x")
    seen.page.wait_for_selector("#method-pixelate[aria-pressed=true]")
    seen.press("2")
    seen.says("Rated: mouth")
    seen.press("u")
    seen.page.wait_for_selector("#redo:enabled")
    assert [face["method"] for face in faces(folder, "photo_008.png")] == [None, None]
    seen.press("Enter")
    seen.page.wait_for_selector(f"#count:has-text('1 of {PHOTOS + 1}')")


def draw_in_the_clip(seen):
    """A face that was missed in one second of it."""
    seen.open("clip.mp4")
    seen.press(*["ArrowRight"] * 3)
    seen.page.wait_for_selector("#time:has-text('frame 3 /')")
    seen.page.click("#draw")
    seen.drag((0.02, 0.6), (0.25, 0.95))
    seen.says("Done and written")
    seen.page.wait_for_selector("#chips:has-text('export')")


def come_back_and_export(seen):
    seen.page.wait_for_selector(f"#count:has-text('1 of {PHOTOS + 1}')")
    seen.page.select_option("#filter", "edited")
    assert seen.page.locator("#items li").count() >= 3
    seen.open("photo_007.png")
    assert seen.page.locator("#undo").get_attribute("title") == "Undo: missed face added"
    seen.page.click("#export")
    seen.page.click("#start")
    seen.page.wait_for_selector("#exportstate:has-text('Done:')", timeout=600_000)
    assert seen.page.locator("#exportproblems li").count() == 0


def test_two_hundred_photos_and_a_clip_through_a_kill(browser, folder):
    with serve(folder) as server:
        seen = Page(browser, server.address)
        assert seen.page.locator("#items li").count() == PHOTOS + 1
        assert seen.page.locator("h1").inner_text() == "photo_000.png"  # the worst comes first
        draw_by_mouse(seen, folder)
        correct_by_keyboard(seen, folder)
        draw_in_the_clip(seen)
        assert not seen.problems
        assert seen.hosts == {server.address.split("/")[2]}
        server.end(signal.SIGKILL)
        seen.press("k")
        seen.page.wait_for_selector("#lost:visible")
        seen.context.close()
    with serve(folder) as server:
        seen = Page(browser, server.address)
        come_back_and_export(seen)
        assert not seen.problems
        seen.context.close()
        assert server.end() == 0
    results, released = folder / "results", folder / "results.release"
    assert len(list(released.iterdir())) == PHOTOS + 1
    assert (released / "photo_007.png").read_bytes() == (results / "photo_007.png").read_bytes()
    tracks = json.loads((results / "clip.mp4.tracks.json").read_text())["tracks"]
    assert len(tracks) == 2
    said = feedback.read(folder / "results.review" / "feedback.jsonl")
    assert [entry.action for entry in said] == ["missed", "missed", "rate", "missed"]


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_has_a_name_and_fits(browser, folder, width):
    with serve(folder) as server:
        seen = Page(browser, server.address)
        seen.page.set_viewport_size({"width": width, "height": 800})
        for name in ("photo_007.png", "clip.mp4"):
            seen.open(name)
            # No control without a name for a screen reader, and nothing wider than the window.
            unnamed = seen.page.evaluate(
                """() => [...document.querySelectorAll("button, select, input, [role=button], img")]
                    .filter((one) => one.checkVisibility() && one.tagName !== "IMG")
                    .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
                    .map((one) => one.outerHTML)"""
            )
            assert unnamed == []
            wide = seen.page.evaluate(
                """() => document.documentElement.scrollWidth <= innerWidth ? [] :
                    [...document.querySelectorAll("body *")]
                    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
                    .map((one) => `${one.tagName} ${one.id} ${one.className}`)"""
            )
            assert wide == [], name
        # With Tab alone one gets to the boxes, and Enter and arrows do not scroll the page away.
        seen.page.focus("#stage")
        for _ in range(12):
            seen.press("Tab")
            if seen.page.evaluate("document.activeElement.getAttribute('class') || ''").startswith(
                "box"
            ):
                break
        else:
            raise AssertionError("no box can be reached with Tab")
        assert "Track" in seen.page.evaluate("document.activeElement.getAttribute('aria-label')")
        seen.context.close()
