"""The logged frames: real pictures from the scikit-image and scikit-learn wheels, enlarged and all different.

Several photographs side by side, enlarged, with sensor noise: what a codec or a compressor finds in real frames, which
neither noise alone nor one small tile repeated would show.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT_4K, WIDTH_4K = 2160, 3840
HEIGHT_HD, WIDTH_HD = 1080, 1920
METER = 1000.0
"""The units per metre of depth frames, which hold millimetres."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """The frames of one kind and size."""

    name: str
    kind: Literal["image", "depth", "segmentation"]
    frames: tuple[NDArray[Any], ...]
    """C-contiguous. Image: (h, w, 3) uint8 sRGB; depth: (h, w) uint16 millimetres, 0 = invalid; segmentation: (h, w)
    uint8 class ids."""

    @property
    def nbytes(self) -> int:
        """The size of all logged frames, in bytes."""
        return sum(frame.nbytes for frame in self.frames)


def photos(height: int, width: int, count: int) -> tuple[NDArray[np.uint8], ...]:
    """Return `count` different (height, width, 3) uint8 sRGB pictures."""
    mosaic = _mosaic(height, width).astype(np.int16)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, (height, width, 3)).round().astype(np.int16)
    frames = []
    for i in range(count):
        shifted = np.roll(mosaic, (37 * i, 61 * i), (0, 1)) + np.roll(noise, (11 * i, 7 * i), (0, 1))
        frames.append(np.clip(shifted, 0, 255, out=shifted).astype(np.uint8))
    return tuple(frames)


def depths(height: int, width: int, count: int) -> tuple[NDArray[np.uint16], ...]:
    """Return `count` different (height, width) depth maps in millimetres, from a stereo ground truth; 0: invalid."""
    base = _enlarge(_depth(), height, width)
    noise = np.random.default_rng(1).integers(-3, 4, (height, width), np.int32)
    frames = []
    for i in range(count):
        shifted = np.roll(base, (37 * i, 61 * i), (0, 1)).astype(np.int32)
        frames.append(np.where(shifted > 0, shifted + np.roll(noise, 7 * i, 1), 0).astype(np.uint16))
    return tuple(frames)


def segmentations(height: int, width: int, count: int) -> tuple[NDArray[np.uint8], ...]:
    """Return `count` different (height, width) maps of 24 class ids: the regions of a photograph."""
    base = _enlarge(_regions(), height, width)
    return tuple(np.ascontiguousarray(np.roll(base, (37 * i, 61 * i), (0, 1))) for i in range(count))


def cloud(count: int) -> NDArray[np.float32]:
    """Return (count, 3) positions in metres: the depth map through a pinhole camera, repeated with some jitter."""
    depth = _depth()
    rows, columns = np.nonzero(depth)
    z = depth[rows, columns] / METER
    points = np.stack([(columns - 311.0) * z / 995.0, (rows - 255.0) * z / 995.0, z], axis=1)
    rng = np.random.default_rng(2)
    return (points[rng.integers(0, len(points), count)] + rng.normal(0, 0.002, (count, 3))).astype(np.float32)


def _enlarge(picture: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Enlarge by the nearest texel, so that no new depths or ids appear."""
    h, w = picture.shape
    enlarged: NDArray[Any] = picture[np.arange(height)[:, None] * h // height, np.arange(width)[None] * w // width]
    return enlarged


@cache
def _mosaic(height: int, width: int) -> NDArray[np.uint8]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    pictures = [
        load_sample_image("china.jpg"),
        data.astronaut(),
        load_sample_image("flower.jpg"),
        data.coffee(),
        data.chelsea(),
        data.rocket(),
    ]
    mosaic = Image.new("RGB", (width, height))
    for i, picture in enumerate(pictures):
        left, right, row = i % 3 * width // 3, (i % 3 + 1) * width // 3, i // 3
        top, bottom = row * height // 2, (row + 1) * height // 2
        mosaic.paste(
            Image.fromarray(picture).resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top)
        )
    return np.asarray(mosaic)


@cache
def _depth() -> NDArray[np.uint16]:
    """Return the (500, 741) millimetres of the Middlebury 2014 "Motorcycle" scene, calibrated as in scikit-image."""
    from skimage import data

    disparity = data.stereo_motorcycle()[2]
    known = np.isfinite(disparity)
    depth = np.zeros(disparity.shape, np.uint16)
    depth[known] = np.rint(METER * 0.193001 * 994.978 / (disparity[known] + 31.086))
    return depth


@cache
def _regions() -> NDArray[np.uint8]:
    from skimage.segmentation import felzenszwalb
    from sklearn.datasets import load_sample_image

    labels = felzenszwalb(load_sample_image("china.jpg"), scale=200, sigma=0.8, min_size=60)
    return (labels % 24).astype(np.uint8)
