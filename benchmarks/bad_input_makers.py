"""The whole inputs that `bad_inputs` damages: one of every kind of file that `dp3 anonymize` reads."""

import json
import pathlib
from fractions import Fraction

import av
import numpy as np
import skimage.data
from PIL import Image, ImageCms

SIZE = 160, 128  # px, of all pictures
_FACE = [66.0, 40.0, 42.0, 56.0]  # in `portrait`, as YuNet finds it
_PHOTOS = {
    "plain.png": {},
    "photo.jpg": {"quality": 90},
    "progressive.jpg": {"progressive": True},
    "photo.png": {},
    "photo.webp": {"quality": 80},
    "lossless.webp": {"lossless": True},
    "lzw.tif": {"compression": "tiff_lzw"},
    "raw.tif": {},
    "photo.bmp": {},
}
# Name: codec, pixel format, sound.
_CLIPS = {
    "plain.mp4": ("libx264", "yuv420p", None),
    "clip.mp4": ("libx264", "yuv420p", "aac"),
    "hevc.mp4": ("libx265", "yuv420p", None),
    "clip.mov": ("libx264", "yuv420p", "pcm_s16le"),
    "clip.mkv": ("libx264", "yuv420p", "flac"),
    "clip.webm": ("libvpx-vp9", "yuv420p", "libopus"),
    "clip.avi": ("mpeg4", "yuv420p", "mp3"),
    "clip.ts": ("libx264", "yuv420p", "aac"),
    "clip.mpg": ("mpeg2video", "yuv420p", "mp2"),
    "clip.flv": ("libx264", "yuv420p", "aac"),
    "clip.wmv": ("msmpeg4v3", "yuv420p", None),
    "clip.gif": ("gif", "rgb8", None),
}


def portrait(number: int = 0) -> np.ndarray:
    """u8[128, 160, 3]: the public-domain astronaut of scikit-image, moved by `number` px."""
    image = skimage.data.astronaut()[20:276, 60 - number : 380 - number]
    return np.asarray(Image.fromarray(image).resize((160, 128), Image.Resampling.LANCZOS))


def _photos(folder: pathlib.Path) -> list[str]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 1, "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, options in _PHOTOS.items():
        more = {} if name.endswith(".bmp") else {"exif": exif, "icc_profile": profile}
        Image.fromarray(portrait()).save(folder / name, **options, **more)
    alpha = np.full((128, 160), 255, np.uint8)
    alpha[:, :20] = np.arange(20) * 12
    Image.fromarray(np.dstack([portrait(), alpha])).save(folder / "alpha.png")
    Image.fromarray(portrait()).convert("P").save(folder / "palette.png", transparency=3)
    Image.fromarray(portrait()).convert("L").save(folder / "grey.jpg")
    Image.fromarray(portrait()).save(folder / "keep.png")
    (folder / "numbered").mkdir()
    for number in range(1, 7):
        Image.fromarray(portrait(number)).save(folder / "numbered" / f"{number:02}.png")
    (folder / "numbered.png").write_bytes((folder / "numbered" / "03.png").read_bytes())
    return [*_PHOTOS, "alpha.png", "palette.png", "grey.jpg", "keep.png", "numbered.png"]


def _clip(path: pathlib.Path, codec: str, pixels: str, sound: str | None) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 128, pixels
        heard = output.add_stream(sound, rate=48000, layout="mono") if sound else None
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(portrait(number)))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if heard is not None:
            form = heard.codec_context.format.name
            size = heard.codec_context.frame_size or 1024
            resampler = av.AudioResampler(form, "mono", 48000, size)
            wave = (8000 * np.sin(np.arange(48000) / 20)).astype(np.int16)
            piece = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            piece.sample_rate, piece.pts = 48000, 0
            for part in [*resampler.resample(piece), *resampler.resample(None)]:
                output.mux(heard.encode(part))
            output.mux(heard.encode(None))


def _others(folder: pathlib.Path) -> list[str]:
    """Files that belong to a photo or video: sidecars, boxes, a secret, weights, a manifest."""
    from dp3_jax.cli.main import main
    from dp3_jax.replacement import generator

    (folder / "boxes.json").write_text(json.dumps([_FACE]))
    (folder / "boxes.csv").write_text("x,y,w,h\n" + ",".join(map(str, _FACE)) + "\n")
    (folder / "clipboxes.csv").write_text("frame,x,y,w,h\n0,66,40,42,56\n9,70,40,42,56\n")
    (folder / "secret.key").write_bytes(np.random.default_rng(0).bytes(32))
    (folder / "weights.safetensors").write_bytes(pathlib.Path(generator.WEIGHTS).read_bytes())
    boxes = ["--boxes", str(folder / "boxes.json"), "--method", "pixelate", "--quiet"]
    photo, clip = str(folder / "plain.png"), str(folder / "plain.mp4")
    made = folder / "made"
    manifest = str(folder / "manifest.jsonl")
    for call in (
        [photo, "-o", str(made / "r.png"), "--sidecar", "--manifest", manifest, *boxes],
        [clip, "-o", str(made / "r.mp4"), "--sidecar", "--method", "pixelate", "--quiet"],
    ):
        if main(["anonymize", *call]):
            raise RuntimeError(f"cannot make {call}")
    (made / "r.png.faces.json").rename(folder / "faces.json")
    (made / "r.mp4.tracks.json").rename(folder / "tracks.json")
    return [
        "faces.json", "tracks.json", "boxes.json", "boxes.csv", "clipboxes.csv", "secret.key",
        "weights.safetensors", "manifest.jsonl",
    ]  # fmt: skip


def make_all(folder: pathlib.Path) -> None:
    """Writes them all into a folder, and their names into names.json."""
    names = _photos(folder)
    for name, (codec, pixels, sound) in _CLIPS.items():
        _clip(folder / name, codec, pixels, sound)
    names += [*_CLIPS, *_others(folder)]
    (folder / "names.json").write_text(json.dumps(names))
