"""Dense optical flow between two frames, which of their pixels see each other, and warping by it (NumPy).

Flow is f32[h, w, 2], (x, y) in px: the pixel p of the first frame lies at p + flow[p] in the second. So
`warp(second, flow)` is the second frame seen from the first, and with a frame's predecessor as `second` it
carries the past into the present. The differentiable counterpart, for training, is `dp3_jax.vision.warping`.
"""

import functools

import cv2
import numpy as np

# Dense inverse search (Kroeger et al., 2016, arXiv:1603.03590): speed against detail.
# OpenCV's presets, and what is set otherwise.
PRESETS = {
    "ultrafast": (cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, {}),
    "fast": (cv2.DISOPTICAL_FLOW_PRESET_FAST, {}),
    "medium": (cv2.DISOPTICAL_FLOW_PRESET_MEDIUM, {}),
    # In half the time of "medium" as exact when averaged over some pixels.
    "lean": (
        cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        {"PatchStride": 4, "GradientDescentIterations": 8, "VariationalRefinementIterations": 0},
    ),
}

_MIN_SIDE = 64  # px; smaller frames get their rims repeated, or the search's pyramid has no level
_CONSISTENT = (0.01, 0.5)  # share of the squared lengths, and px^2
_BOUNDARY = (0.01, 0.002)  # share of the squared length, and squared slope


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def dense_flow(
    first: np.ndarray, second: np.ndarray, *, scale: float = 1.0, preset: str = "medium"
) -> np.ndarray:
    """Where each pixel of one frame went in another.

    Args:
      first, second: u8[h, w, 3] RGB or u8[h, w] grey, of one size.
      scale: in (0, 1]: compute on frames smaller by this factor; the work falls with its square.
      preset: one of PRESETS.

    Returns:
      f32[h, w, 2] in px of the full-size frames.
    """
    if first.shape[:2] != second.shape[:2] or first.dtype != np.uint8 or second.dtype != np.uint8:
        raise ValueError(f"two u8 frames of one size, not {first.shape} and {second.shape}")
    if not 0 < scale <= 1:
        raise ValueError(f"scale={scale} is not in (0, 1]")
    height, width = first.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    right, bottom = (max(0, _MIN_SIDE - side) for side in size)
    views = []
    for image in (first, second):
        view = _grey(image)
        if size != (width, height):
            view = cv2.resize(view, size, interpolation=cv2.INTER_AREA)
        views.append(cv2.copyMakeBorder(view, 0, bottom, 0, right, cv2.BORDER_REPLICATE))
    # A new one each time: it has buffers, so threads cannot share it, and making it costs nothing.
    base, options = PRESETS[preset]
    search = cv2.DISOpticalFlow.create(base)
    for name, value in options.items():
        getattr(search, f"set{name}")(value)
    found = search.calc(*views, None)[: size[1], : size[0]]
    if size == (width, height):
        return np.ascontiguousarray(found)
    full = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    return full * np.array([width / size[0], height / size[1]], np.float32)


@functools.lru_cache(maxsize=4)
def pixels(height: int, width: int) -> np.ndarray:
    """f32[h, w, 2], read-only: (x, y) of each pixel."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    result = np.stack([columns, rows], -1)
    result.setflags(write=False)
    return result


def _positions(flow: np.ndarray) -> np.ndarray:
    """f32[h, w, 2]: p + flow."""
    return pixels(*flow.shape[:2]) + flow


def inside(flow: np.ndarray) -> np.ndarray:
    """bool[h, w]: whether p + flow lies in the frame."""
    height, width = flow.shape[:2]
    x, y = np.moveaxis(_positions(flow), -1, 0)
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def sample(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """`image` sampled bilinearly at p + flow.

    Args:
      image: u8 or f32, [h, w] or [h, w, c]; its rim repeats outside. OpenCV rounds positions to 1/32 px.
      flow: f32[h, w, 2].
    """
    at = _positions(flow)
    sampled = cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(image.shape)


def warp(image: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(`sample(image, flow)`, bool[h, w] `inside(flow)`)."""
    return sample(image, flow), inside(flow)


def _squared_length(vectors: np.ndarray) -> np.ndarray:
    """f32[h, w] of f32[h, w, 2]; NumPy's own sum over a last axis of two takes ten times as long."""
    x, y = np.moveaxis(vectors, -1, 0)
    return x * x + y * y


def consistent(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """bool[h, w]: going forward and then back ends close to where it began.

    |f + b'|^2 <= 0.01 (|f|^2 + |b'|^2) + 0.5 px^2, with b' the backward flow at p + f (Sundaram et al.,
    2010, "Dense point trajectories by GPU-accelerated large displacement optical flow"). False where p + f
    is outside the frame.
    """
    back, seen = warp(backward, forward)
    gap = _squared_length(forward + back)
    lengths = _squared_length(forward) + _squared_length(back)
    share, least = _CONSISTENT
    return seen & (gap <= share * lengths + least)


def motion_boundaries(flow: np.ndarray) -> np.ndarray:
    """bool[h, w]: where the flow changes abruptly, so that its place is uncertain.

    |grad u|^2 + |grad v|^2 > 0.01 |f|^2 + 0.002 (Sundaram et al., 2010; Ruder et al., 2016,
    arXiv:1604.08610). Turning by more than 1.8 degrees a frame counts as one near the turn's centre.
    """
    slopes = sum(_squared_length(g) for g in np.gradient(flow, axis=(0, 1)))
    share, least = _BOUNDARY
    return slopes > share * _squared_length(flow) + least


def visible(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Which pixels of the first frame are seen in the second as well, and where is known well.

    Args:
      forward: f32[h, w, 2], from the first frame to the second.
      backward: f32[h, w, 2], from the second to the first.

    Returns:
      bool[h, w] in the first frame: `consistent` and no `motion_boundaries`.
    """
    return consistent(forward, backward) & ~motion_boundaries(forward)
