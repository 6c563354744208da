"""Makes the pictures of the docs that show the page of `dp3 review`.

    python docs/make_review_pictures.py [FOLDER]      # where photos are made and kept; default: runs/review

review_light.jpg, review_dark.jpg, review_narrow.jpg   the page, with photos and a clip of generated people

Needs the extras review and browser-test, chromium, and the prior. Run it again when the page has changed.
"""

import io
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import cv2
import make_pictures
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from dp3_jax.common import files
from dp3_jax.evaluation import demo_clip, demo_person
from dp3_jax.replacement.prior_identities import PriorIdentities

DOCS = pathlib.Path(__file__).parent
PEOPLE = range(100, 112)  # seeds
GROUPS = ((0, 5, 10, 3, 8, 1), (4, 9, 2, 7, 0, 5), (8, 1, 6, 11, 4, 9))  # of them, three in a row
FRAMES, CUT, SIDE = 75, 50, 400  # of the clip: frames, the first of another person, px
QUALITY = 85
WAIT = 300_000  # ms
COMMAND = "import sys; from dp3_jax.cli.main import run; sys.argv[0] = 'dp3'; run()"


def people(folder: pathlib.Path) -> None:
    """Portraits, groups and a clip of generated people."""
    source = PriorIdentities()
    portraits = [make_pictures.generated_photo(source, seed) for seed in PEOPLE]
    for number, portrait in enumerate(portraits):
        Image.fromarray(resized(portrait, 768)).save(folder / f"portrait_{number:02d}.jpg")
    for number, group in enumerate(GROUPS):
        row = [resized(portraits[index], 320) for index in group]
        Image.fromarray(np.vstack([np.hstack(row[:3]), np.hstack(row[3:])])).save(
            folder / f"group_{number}.jpg"
        )
    demo_clip.write_clip(folder / "interview.mp4", interview(source, portraits))


def interview(source: PriorIdentities, portraits: list[np.ndarray]) -> Iterator[np.ndarray]:
    """A person who speaks, beside another one who is exchanged at CUT."""
    for number, frame in enumerate(demo_person.talking(source, FRAMES, SIDE)):
        other = resized(portraits[3 if number < CUT else 6], 768)
        left = round(60 + 60 * np.sin(2 * np.pi * number / FRAMES))
        part = cv2.resize(other[20:700, left : left + 600], (352, SIDE))
        yield np.ascontiguousarray(np.hstack([frame, part]))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """u8[side, side, 3]."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS))


def opened(browser: Browser, address: str, scheme: str, width: int, height: int) -> Page:
    """The page in a window of that size; `scheme` is "light" or "dark"."""
    size = {"width": width, "height": height}
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
    page.goto(address)
    page.wait_for_selector("#after image", state="attached")
    return page


def choose(page: Page, name: str) -> None:
    """Opens an item, and waits until its pictures are there."""
    page.click(f"#items button[title='{name}']")
    page.wait_for_selector(f"h1:text-is('{name}')")
    settle(page)


def settle(page: Page) -> None:
    """Waits until all pictures are there; the first new faces take longest."""
    page.wait_for_timeout(1000)
    page.wait_for_selector("#busy", state="hidden", timeout=WAIT)
    page.wait_for_selector("#strip button:last-child img:last-of-type[src]", timeout=WAIT)
    page.wait_for_timeout(2000)


def shoot(page: Page, name: str, full: bool = False) -> None:
    """Writes what the page shows."""
    image = Image.open(io.BytesIO(page.screenshot(full_page=full))).convert("RGB")
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    files.write_bytes(DOCS / name, content.getvalue())


def tour(browser: Browser, address: str) -> None:
    """Some corrections, and a picture of each kind of page."""
    page = opened(browser, address, "light", 1440, 900)
    for name in ("portrait_01.jpg", "portrait_02.jpg"):
        choose(page, name)
        page.keyboard.press("0")
        page.wait_for_selector("#verdict-0[aria-pressed=true]")
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#items button[aria-label*='{name}'][aria-label*='reviewed']")
    choose(page, "group_1.jpg")
    page.click("#face-2")
    page.keyboard.press("4")
    page.wait_for_selector("#verdict-colour[aria-pressed=true]")
    page.click("#face-0")
    choose(page, "group_1.jpg")
    shoot(page, "review_light.jpg")
    dark = opened(browser, address, "dark", 1440, 900)
    choose(dark, "interview.mp4")
    dark.click(".row >> nth=1 >> button")
    for _ in range(CUT // 10):
        dark.keyboard.press("Shift+ArrowRight")
    dark.wait_for_selector(f"#time:has-text('frame {CUT} ')")
    dark.keyboard.press("t")
    dark.wait_for_selector(".row >> nth=2")
    dark.keyboard.press("p")
    settle(dark)
    shoot(dark, "review_dark.jpg")
    narrow = opened(browser, address, "light", 420, 1000)
    choose(narrow, "portrait_03.jpg")
    shoot(narrow, "review_narrow.jpg")


def main(folder: pathlib.Path) -> None:
    """Makes the photos where they are not yet, and the pictures."""
    originals, results = folder / "people", folder / "released"
    start = [sys.executable, "-c", COMMAND]
    if not originals.is_dir():
        originals.mkdir(parents=True)
        people(originals)
    if not results.is_dir():
        made = [*start, "anonymize", originals, "-o", results, "--sidecar", "--seed", "5"]
        subprocess.run(made, check=True)
    command = [*start, "review", "released", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        address = server.stdout.readline().strip()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            tour(browser, address)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/review"))
