"""The command: what it prints, whom it answers, how it ends and how it goes on after a kill."""

import signal
import socket
import urllib.error
import urllib.parse
import urllib.request

import pytest

from dp3_jax.cli.main import main
from tests import review_makers
from tests.review.serving import serving


def status(address, **headers):
    try:
        request = urllib.request.Request(address, headers=headers)
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_it_prints_one_line_and_answers_only_who_has_it(tmp_path):
    review_makers.photos(tmp_path, 1)
    with serving(tmp_path / "results", "--originals", tmp_path / "originals") as server:
        parts = urllib.parse.urlsplit(server.address)
        assert parts.hostname == "127.0.0.1" and len(parts.query) > 30
        root = f"http://{parts.netloc}/"
        assert status(server.address) == 200
        for path in ("", "?token=", "?token=x", "static/review.js", "api/session", "favicon.ico"):
            assert status(root + path) == 403
        assert status(server.address, Host="example.org") == 403
        # Nobody else's machine: it listens on the loopback alone.
        with socket.socket() as other:
            other.bind(("127.0.0.2", parts.port))
        assert server.end(signal.SIGINT) == 0
        assert not (tmp_path / "results.review" / "open.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "there is no missing"),
        (["."], "no photo or video"),
        ([".", "--port", "99999"], "--port"),
        ([".", "--originals", "nowhere"], "--originals"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert main(["review", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_a_taken_port_is_said(tmp_path, capsys):
    review_makers.photos(tmp_path, 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["review", str(tmp_path / "results"), "--no-browser", "--port", str(port)]) == 2
    assert "choose another --port" in capsys.readouterr().err
