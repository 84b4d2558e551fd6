"""The meaning of the colors of a video's frames, and their conversion to RGB.

From YCbCr to RGB: R = Y + 2(1-Kr) Cr, B = Y + 2(1-Kb) Cb, G = (Y - Kr R - Kb B) / (1-Kr-Kb), with the matrix
coefficients Kr, Kb of ITU-T H.273, table 4; limited range is 16 ... 235 for Y and 16 ... 240 for Cb and Cr, of 8 bits.
swscale converts; the matrix and the range are always passed to it, since it would assume BT.601 for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import LumatileError

MATRICES: Mapping[int, str] = {
    1: "ITU709",
    4: "FCC",
    5: "ITU601",
    6: "ITU601",
    7: "SMPTE240M",
    9: "BT2020",
}
"""MatrixCoefficients of H.273 -> PyAV's name of swscale's matrix."""

NOT_SAID = (0, 2, 3)
"""MatrixCoefficients that do not define YCbCr: RGB, unspecified, reserved."""

HD_WIDTH, HD_HEIGHT = 1280, 576
"""YCbCr without a matrix is BT.709 from this width, or above this height, else BT.601, as in mpv."""

LIMITED, FULL = 1, 2
"""FFmpeg's AVColorRange."""


class BrokenVideoError(LumatileError):
    """The video is truncated, corrupt or too large, or the file is not a video."""


class FrameColors:
    """The colors of one frame.

    Without a range, it is limited for YCbCr and full for RGB and gray. Without a matrix, see HD_WIDTH.
    """

    def __init__(self, frame: Any) -> None:
        """Read the format of a frame. Raises BrokenVideoError for a matrix that swscale does not have."""
        form = frame.format
        gray = form.name.startswith(("gray", "mono", "ya"))
        self.ycbcr = not (gray or form.is_rgb or form.has_palette or form.name.startswith("xyz"))
        said = frame.color_range
        self.limited = said == LIMITED or (said != FULL and self.ycbcr and not form.name.startswith("yuvj"))
        self.matrix = self._matrix(frame)
        self._bits = max(component.bits for component in form.components)
        self._deep = self._bits > 8 or (form.name.startswith("bayer") and "16" in form.name)
        self._alpha = form.has_palette or any(component.is_alpha for component in form.components)
        kind = "rgba" if self._alpha else "gray" if gray else "rgb"
        deep, flat = {"rgba": ("rgba64le", "rgba"), "gray": ("gray16le", "gray"), "rgb": ("rgb48le", "rgb24")}[kind]
        self.target = deep if self._deep else flat
        """FFmpeg's name of the format to convert to."""

    def widened(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels converted by swscale, stretched to the range from 0 to the largest number.

        swscale shifts the bits of deep YCbCr and its alpha up without filling the low ones, so that white is less than
        65535 (white of limited range is 255 * 256); and it ignores the range of gray and RGB.
        """
        largest = np.iinfo(pixels.dtype).max
        moved = ((1 << self._bits) - 1) << 16 - self._bits if self._deep and self.ycbcr else largest
        low, high = 0.0, float(largest)
        if self.ycbcr and self._deep:
            high = 255 * 256 if self.limited else moved
        elif self.limited and not self.ycbcr:
            bits = max(8, self._bits)
            step = largest / ((1 << bits) - 1) * (1 << bits - 8)
            low, high = 16 * step, 235 * step
        if (low, high, moved) == (0.0, largest, largest):
            return pixels
        table = _table(low, high, largest)
        if not self._alpha:
            return np.take(table, pixels)
        tables = [table, table, table, _table(0.0, moved, largest)]
        return np.stack([table[pixels[..., i]] for i, table in enumerate(tables)], -1)

    def _matrix(self, frame: Any) -> str:
        said = int(frame.colorspace)
        if not self.ycbcr or said in NOT_SAID:
            return "ITU709" if frame.width >= HD_WIDTH or frame.height > HD_HEIGHT else "ITU601"
        if said not in MATRICES:
            raise BrokenVideoError(f"the video's colors cannot be converted: matrix coefficients {said} of H.273")
        return MATRICES[said]


@lru_cache(maxsize=8)
def _table(low: float, high: float, largest: int) -> NDArray[Any]:
    """Return (largest + 1,) uint8 or uint16: the new value of each number; low becomes 0, and high the largest."""
    numbers = (np.arange(largest + 1) - low) * (largest / (high - low))
    table: NDArray[Any] = np.clip(np.rint(numbers), 0, largest).astype(np.uint8 if largest == 255 else np.uint16)
    return table
