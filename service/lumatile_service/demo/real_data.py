"""The demo's data: photographs, a measured depth map and segmentations, all from installed wheels, nothing downloaded.

Only files inside the scikit-image and scikit-learn wheels are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

FOCAL_PX = 994.978
PRINCIPAL_X, PRINCIPAL_Y = 311.193, 254.877
PRINCIPAL_DX = 31.086
"""Difference of the two cameras' principal points, in pixels."""
BASELINE_M = 0.193001
"""Calibration of the Middlebury 2014 "Motorcycle" pair at the size scikit-image ships it (its docstring)."""

COIN_SIZES = ("background", "small coin", "medium coin", "large coin")
"""Classes of `Coins.sizes`, by class id."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stereo:
    """The Middlebury 2014 "Motorcycle" scene.

    D. Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth, GCPR 2014.
    """

    left: NDArray[np.uint8]
    """(500, 741, 3): sRGB."""
    right: NDArray[np.uint8]
    """(500, 741, 3): sRGB."""
    depth: NDArray[np.float32]
    """(500, 741): metres from the left camera, 0 where the ground truth has no value."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Coins:
    """scikit-image's "coins" (Greek coins from Pompeii, Brooklyn Museum) and its segmentation by a watershed."""

    photo: NDArray[np.uint8]
    """(303, 384): gray, sRGB gamma."""
    instances: NDArray[np.uint8]
    """(303, 384): a number a coin, 0 the background."""
    sizes: NDArray[np.uint8]
    """(303, 384): class ids, see `COIN_SIZES`."""


def photo(name: str) -> NDArray[np.uint8]:
    """Return the photograph of `skimage.data` with this function name: (h, w, 3) uint8 sRGB."""
    from skimage import data

    return cast("NDArray[np.uint8]", getattr(data, name)())


def photo_file(name: str) -> Path:
    """Return the file of a photograph in the wheels: china.jpg, flower.jpg, hubble_deep_field.jpg, retina.jpg ..."""
    for package in ("sklearn.datasets.images", "skimage.data"):
        path = Path(str(resources.files(package) / name))
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} is in neither scikit-learn's nor scikit-image's wheel")


def stereo() -> Stereo:
    """Return the scene, with depth = baseline * focal length / (disparity + difference of principal points).

    Formula and calibration: the Middlebury 2014 data sheet, https://vision.middlebury.edu/stereo/data/scenes2014/
    """
    from skimage import data

    left, right, disparity = data.stereo_motorcycle()
    known = np.isfinite(disparity)
    depth = np.zeros(disparity.shape, np.float32)
    depth[known] = BASELINE_M * FOCAL_PX / (disparity[known] + PRINCIPAL_DX)
    return Stereo(left=left, right=right, depth=depth)


def back_project(depth: NDArray[np.float32], rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the valid pixels of the left camera's depth map as points.

    Positions are (N, 3) in metres, x right, y down, z forward of the left camera; colors are (N, 3) uint8 sRGB.
    """
    y, x = np.nonzero(depth)
    z = depth[y, x]
    positions = np.stack([(x - PRINCIPAL_X) / FOCAL_PX * z, (y - PRINCIPAL_Y) / FOCAL_PX * z, z], axis=-1)
    return positions.astype(np.float32), rgb[y, x]


def coins() -> Coins:
    """Segment the coins as scikit-image's gallery does: a watershed of the edges from sure coin and sure ground."""
    from skimage import data, filters, measure, segmentation

    gray = data.coins()
    markers = np.where(gray < 30, 1, np.where(gray > 150, 2, 0))
    found = segmentation.watershed(filters.sobel(gray), markers) == 2
    instances = np.zeros(gray.shape, np.uint8)
    sizes = np.zeros(gray.shape, np.uint8)
    regions: list[Any] = [region for region in measure.regionprops(measure.label(found)) if region.area > 100]
    for number, region in enumerate(regions, start=1):
        diameter = np.sqrt(4 * region.area_filled / np.pi)
        instances[region.slice][region.image_filled] = number
        sizes[region.slice][region.image_filled] = 1 + int(np.searchsorted([40, 50], diameter))
    return Coins(photo=gray, instances=instances, sizes=sizes)


def moon16() -> NDArray[np.uint16]:
    """Return scikit-image's "moon" with locally equalised contrast, which needs 16 bits: (512, 512) gray."""
    from skimage import data, exposure

    equalised: NDArray[np.float64] = exposure.equalize_adapthist(data.moon())
    return np.rint(equalised * 65535).astype(np.uint16)
