"""A picture to look at: before | boxes | after. It shows the original faces and is not for release."""

import os

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from dp3_jax.common.files import atomic_target
from dp3_jax.pipelines.anonymize import Result
from dp3_jax.pipelines.outputs import PREVIEW_MARK
from dp3_jax.replacement.face_actions import Done

_LONGER = 1000  # px of a panel's longer side at most
_COLOURS = {Done.KEPT: (255, 200, 0), Done.COVERED: (255, 60, 60)}
_USUAL = (60, 220, 60)


def draw_preview(before: np.ndarray, result: Result) -> np.ndarray:
    """Three panels side by side, u8[h, 3 w, 3], scaled down where the photo is large.

    Args:
      before: u8[h, w, 3].
      result: of anonymizing it.
    """
    scale = min(1.0, _LONGER / max(before.shape[:2]))
    size = max(1, round(before.shape[1] * scale)), max(1, round(before.shape[0] * scale))
    panels = [
        cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        for frame in (before, before, result.frame)
    ]
    panels[1] = np.ascontiguousarray(panels[1])
    thickness = max(1, round(max(size) / 400))
    for face_result in result.face_results:
        x, y, w, h = (v * scale for v in face_result.action.face.box)
        low, high = (round(x), round(y)), (round(x + w), round(y + h))
        cv2.rectangle(panels[1], low, high, _COLOURS.get(face_result.done, _USUAL), thickness)
        text = f"{face_result.action.face.confidence:.2f} {face_result.done}"
        place = low[0], max(low[1] - 3, 8)
        cv2.putText(panels[1], text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 3)
        cv2.putText(panels[1], text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
    return np.concatenate(panels, 1)


def write_preview(path: str | os.PathLike, before: np.ndarray, result: Result) -> None:
    """Writes `draw_preview` as PNG, atomically.

    Raises:
      UserError: the file cannot be written.
    """
    picture = Image.fromarray(draw_preview(before, result))
    says = PngImagePlugin.PngInfo()
    says.add_text("Comment", PREVIEW_MARK)
    with atomic_target(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=says)
