"""The far end of live video: sinks, the preview page, and the command before them; also what is measured."""

import argparse
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
from PIL import Image

from dp3_jax.cli import live_command
from dp3_jax.common.errors import UserError, fail
from dp3_jax.media.live import sinks
from dp3_jax.media.live.preview_page import PreviewPage
from dp3_jax.media.live.sources import Wanted, open_source
from dp3_jax.media.video.encoding import EncoderSettings
from dp3_jax.pipelines.live import measurements
from dp3_jax.pipelines.live.pipeline import Pipeline
from dp3_jax.pipelines.live.quality_controller import QualityController
from tests import face_photos, live_scenes
from tests.pipelines.test_live import WALKING, make_policy, renderers

LINE = (
    "import argparse, sys; from dp3_jax.cli import live_command as command\n"
    "from dp3_jax.common.errors import UserError, fail\n"
    "parser = argparse.ArgumentParser(); command.add_parser(parser.add_subparsers())\n"
    "arguments = parser.parse_args()\n"
    "try: status = arguments.run(arguments)\n"
    "except UserError as error: status = fail(str(error))\n"
    "sys.exit(status)"
)


def live(*arguments):
    return [sys.executable, "-c", LINE, "live", *map(str, arguments)]


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    live_command.add_parser(parser.add_subparsers())
    return parser.parse_args(["live", *arguments])


def opened(to, width=64, height=48, rate=25.0, **settings):
    return sinks.open_sink(str(to), width, height, rate, EncoderSettings(**settings))


def grey(level, width=64, height=48):
    return np.full((height, width, 3), level, np.uint8)


def frames_of(path):
    with av.open(str(path)) as container:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


# --- the command ------------------------------------------------------------------------------------


def test_raw_frames_become_a_file_without_the_face_and_ctrl_c_finishes_it(tmp_path):
    face_photos.detector_or_skip()
    astronaut, target = face_photos.astronaut(), tmp_path / "out.mp4"
    arguments = ("-", "--size", "512x512", "--fps", "20", "--as-fast-as-possible", "--json")
    with subprocess.Popen(
        live(*arguments, "--to", target, "--seed", "1"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        for _ in range(6):
            process.stdin.write(astronaut.tobytes())
        process.stdin.flush()
        while b"dropped" not in process.stderr.readline():  # its first status line
            assert process.poll() is None
        process.send_signal(signal.SIGINT)  # while its input is still open
        printed, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    summary = json.loads(printed)
    shown = summary["frames"]["shown"]
    assert 3 <= shown <= 6
    assert summary["faces"].keys() == {"generated"}
    written = frames_of(target)
    assert [round(20 * seconds) for seconds, _ in written] == list(range(shown))
    difference = np.abs(written[-1][1].astype(int) - astronaut).mean(-1)
    hidden = face_photos.masked(face_photos.face())
    assert difference[hidden].mean() > 4 * difference[~hidden].mean()
    assert difference[hidden].mean() > 12


def test_raw_frames_in_and_out_and_nothing_else_on_standard_output():
    face_photos.detector_or_skip()
    one = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    arguments = ("-", "--size", "48x32", "--fps", "10", "--as-fast-as-possible", "--json")
    done = subprocess.run(
        live(*arguments, "--to", "-", "--method", "solid", "--delay", "2"),
        input=one.tobytes() * 5 + b"half a frame", capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == one.tobytes() * 5
    assert '"shown": 5' in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--method", "solid"], "--size WxH and --fps N"),
        (["nowhere.mp4", "--method", "solid"], "there is no file nowhere.mp4"),
        (["nowhere/%d.png", "--method", "solid"], "cannot look for nowhere/%d.png"),
        (["97", "--method", "solid"], "there is no camera 97"),
        (["rtsp://me:secret@127.0.0.1:9/x", "--method", "solid"], "rtsp://127.0.0.1:9/x"),
    ],
)
def test_a_source_that_cannot_be_had_is_told_in_one_line(arguments, message):
    asked = parsed(*arguments)
    with pytest.raises(UserError, match=message) as raised:
        asked.run(asked)
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "wrong",
    [
        ["x", "--size", "12"],
        ["x", "--fps", "0"],
        ["x", "--fps", "1e-9"],
        ["x", "--size", "99999x99999"],
        ["x", "--delay", "99"],
        ["x", "--method", "paint"],
    ],
)
def test_a_wrong_argument_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        parsed(*wrong)
    assert wrong[1] in capsys.readouterr().err


# --- sinks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "codec", "width"),
    [(".mp4", None, 64), (".webm", None, 64), (".mkv", "mjpeg", 64), (".mov", "h264", 65)],
)
def test_a_recording_keeps_the_times_of_live_frames(tmp_path, suffix, codec, width):
    target = tmp_path / f"x{suffix}"
    times = [0.0, 0.04, 0.4, 0.41, 0.41, 2.0]  # frames were dropped, and one clock stood still
    with opened(target, width, codec=codec) as sink:
        for number, seconds in enumerate(times):
            sink.write(grey(30 * number, width), seconds)
        assert not target.exists()
    written = frames_of(target)
    assert [seconds for seconds, _ in written] == pytest.approx(
        [0.0, 0.04, 0.4, 0.41, 0.411, 2.0], abs=0.0011
    )
    assert written[3][1].shape == (48, width, 3)
    assert written[3][1].mean() == pytest.approx(90, abs=6)


def test_a_recording_without_a_frame_is_no_file(tmp_path):
    with pytest.raises(UserError, match="no frame was shown"), opened(tmp_path / "x.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError), opened(tmp_path / "x.mp4") as sink:
        sink.write(grey(0), 0.0)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_stream_goes_over_the_network_from_a_sink_to_a_source():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    received = []

    def receive():
        source = open_source(f"tcp://127.0.0.1:{port}?listen=1", Wanted())
        received.extend(source.frames)

    receiver = threading.Thread(target=receive)
    receiver.start()
    while True:  # until the receiver listens; a hang is for pytest's timeout to end
        try:
            with opened(f"tcp://127.0.0.1:{port}") as sink:
                for number in range(30):
                    sink.write(grey(8 * number), number / 25)
            break
        except UserError:
            assert receiver.is_alive()
            time.sleep(0.05)
    receiver.join()
    assert [frame.number for frame in received] == list(range(30))
    assert received[20].image.mean() == pytest.approx(160, abs=6)


def test_sinks_that_cannot_be_had_are_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    wrong = {
        "camera": "pip install pyvirtualcam",
        "preview:many": "preview:HOST:PORT",
        str(tmp_path / "x.txt"): "choose one of .mp4",
        "rtmp://me:secret@127.0.0.1:9/x": "rtmp://127.0.0.1:9/x",
    }
    for text, message in wrong.items():
        with pytest.raises(UserError, match=message) as raised, opened(text):
            pass
        assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_a_window_without_a_screen_is_told_in_one_line(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if not sys.platform.startswith("linux"):
        pytest.skip("a screen cannot be taken away here")
    with pytest.raises(UserError, match="--to preview"), opened("window"):
        pass


def test_a_virtual_camera_without_a_driver_is_told_in_one_line(monkeypatch, capsys):
    def camera(*arguments, **options):
        raise RuntimeError("No v4l2 loopback device found. Did you run it?\nSee elsewhere.")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", argparse.Namespace(Camera=camera))
    advice = "modprobe v4l2loopback" if sys.platform.startswith("linux") else "install OBS"
    with pytest.raises(UserError, match=f"device found; .*{advice}") as raised, opened("camera"):
        pass
    assert fail(str(raised.value)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_package_is_told_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    monkeypatch.setattr(live_command, "open_rendering_of", pytest.fail)
    asked = parsed("0", "--to", "camera")
    with pytest.raises(UserError, match="pip install pyvirtualcam"):
        asked.run(asked)


def test_a_virtual_camera_gets_every_frame(monkeypatch):
    class Camera:
        device = "/dev/video9"

        def __init__(self, width, height, fps, device):
            self.sent, self.size, self.closed = [], (width, height), False
            made.append(self)

        def send(self, image):
            self.sent.append(image)

        def close(self):
            self.closed = True

    made = []
    module = argparse.Namespace(Camera=Camera)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", module)
    with opened("camera:/dev/video9") as sink:
        sink.write(grey(7), 0.0)
    assert made[0].size == (64, 48) and made[0].closed
    assert (made[0].sent[0] == 7).all()


# --- the preview page -------------------------------------------------------------------------------


@pytest.fixture
def page():
    page = PreviewPage(port=0)
    yield page
    page.close()


def get(page, path, host=None):
    connection = http.client.HTTPConnection(page.host, page.port)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    return connection.getresponse()


def test_the_page_shows_an_anonymized_frame(page):
    policy = make_policy(live_scenes.Finder())
    pipeline = Pipeline(
        live_scenes.frames(WALKING), policy, renderers(method="solid"), page,
        controller=QualityController(fixed=True), stopping=threading.Event(), drop=False,
    )  # fmt: skip
    pipeline.run(lambda recent: None)
    answer = get(page, "/frame.jpg")
    assert answer.headers["Content-Type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(answer.read()))).astype(int)
    assert shown.shape == (live_scenes.HEIGHT, live_scenes.WIDTH, 3)
    assert (
        np.abs(shown - live_scenes.SIGNAL).max(-1).min() > 60
    )  # no pixel is near the face's colour
    x, y = int(WALKING[0][0][0].box(60)[0]) + 30, 80
    assert shown[y, x] == pytest.approx([128] * 3, abs=8)


def test_the_page_streams_frames_as_they_come(page):
    page.write(grey(10), 0.0)
    stream = get(page, "/stream")
    assert stream.headers["Content-Type"].startswith(
        "multipart/x-mixed-replace; boundary=dp3-frame"
    )
    for level in (10, 200):
        page.write(grey(level), 0.0)
        while True:  # a first frame may come twice
            assert stream.readline().strip() == b"--dp3-frame"
            assert stream.readline().strip() == b"Content-Type: image/jpeg"
            length = int(stream.readline().split(b":")[1])
            stream.readline()
            content = stream.read(length)
            stream.readline()
            if abs(np.asarray(Image.open(io.BytesIO(content))).mean() - level) < 4:
                break


def test_the_page_is_small_and_only_for_this_machine(page):
    assert page.host == "127.0.0.1"
    page.status = "30.0 fps"
    assert json.loads(get(page, "/status").read()) == {"line": "30.0 fps"}
    assert b'<img src="/stream"' in get(page, "/").read()
    assert get(page, "/frame.jpg").status == 503  # no frame yet
    assert get(page, "/etc/passwd").status == 404
    assert get(page, "/", host="evil.example:80").status == 403  # DNS rebinding
    assert get(page, "/", host="localhost:80").status == 200


def test_a_taken_port_is_told_in_one_line(page):
    with pytest.raises(UserError, match="--to preview:PORT"), opened(f"preview:{page.port}"):
        pass


# --- measuring --------------------------------------------------------------------------------------


def test_latencies_are_counted_to_a_millisecond():
    meter = measurements.Meter()
    for latency in np.linspace(0.001, 0.1, 100):
        meter.shown(float(latency))
    total = meter.total()
    assert total["latency_ms"]["p50"] == pytest.approx(50, abs=1)
    assert total["latency_ms"]["p95"] == pytest.approx(95, abs=1)
    assert total["latency_ms"]["max"] == pytest.approx(100, abs=1)
    meter.interval()
    meter.shown(1.0)
    assert meter.interval()["p50"] == 1000
    assert measurements.percentile(np.zeros(5, int), 0.5) == 0
