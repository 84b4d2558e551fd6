"""Curves, palettes and colormaps, each built once in float64 and shared by all backends. All tables are read-only.

sRGB: IEC 61966-2-1, decoding c <= 0.04045: c / 12.92, else ((c + 0.055) / 1.055) ** 2.4; encoding is its inverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import TileFormat

T = TypeVar("T", bound=np.generic)

COLOR_LIMITS: dict[TileFormat, tuple[np.float32, np.float32]] = {
    "linear": (np.float32(-65504), np.float32(65504)),
    "srgb8": (np.float32(0), np.float32(1)),
    "rgba32float": (-np.finfo(np.float32).max / 4, np.finfo(np.float32).max / 4),
}
"""The least and greatest linear light of each tile format: neither a texel nor the sum of four can overflow."""

OPAQUE = 255
"""The alpha code of an opaque color."""


def _srgb_decode(code: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _codes(dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Return all values of an unsigned integer dtype as fractions of the greatest."""
    greatest = np.iinfo(dtype).max
    return np.arange(greatest + 1) / greatest


def _frozen(table: NDArray[T]) -> NDArray[T]:
    table.flags.writeable = False
    return table


@cache
def srgb_to_linear(dtype: np.dtype[Any]) -> NDArray[np.float32]:
    """Return the linear light of every uint8 or uint16 sRGB code: (256,) or (65536,) float32."""
    return _frozen(_srgb_decode(_codes(dtype)).astype(np.float32))


@cache
def srgb_to_half(dtype: np.dtype[Any]) -> NDArray[np.float16]:
    """Return the linear light of every uint8 or uint16 sRGB code, rounded once: (256,) or (65536,) float16."""
    return _frozen(_srgb_decode(_codes(dtype)).astype(np.float16))


@cache
def unit_interval(dtype: np.dtype[Any]) -> NDArray[np.float32]:
    """Return every uint8 or uint16 value as a fraction of the greatest (alpha): (256,) or (65536,) float32."""
    return _frozen(_codes(dtype).astype(np.float32))


@cache
def srgb_thresholds() -> NDArray[np.float32]:
    """Return the linear light at which the sRGB code steps from k to k + 1: (255,) float32, ascending.

    Entry k is the least float32 that is not less than the linear light of code k + 0.5.
    """
    return _thresholds(255)


def _thresholds(greatest: int) -> NDArray[np.float32]:
    exact = _srgb_decode((np.arange(greatest) + 0.5) / greatest)
    near = exact.astype(np.float32)
    return _frozen(np.where(near < exact, np.nextafter(near, np.float32(np.inf)), near))


SRGB_LEAST = np.float32(2**-13)
"""Linear light up to this value has code 0; its bits are 0x3900 << 16."""


@cache
def srgb_buckets() -> NDArray[np.uint32]:
    """Return a table, (1665,) uint32, that gives the code of x in [SRGB_LEAST, 1] with one look-up.

    The code is (buckets[(bits >> 16) - 0x3900] + (bits & 0xFFFF)) >> 16, `bits` being the bits of x as an integer. A
    bucket holds the floats that share their upper 16 bits, so it contains at most one threshold. Its entry is the code
    at its lower end << 16, plus the number that makes the lower 16 bits of the threshold carry.
    """
    upper = np.arange(0x3900, 0x3F81, dtype=np.uint32) << np.uint32(16)
    before = np.searchsorted(srgb_thresholds(), upper.view(np.float32), side="left").astype(np.uint32)
    buckets = before << np.uint32(16)
    thresholds = srgb_thresholds().view(np.uint32)
    holders = (thresholds >> np.uint32(16)) - np.uint32(0x3900)
    buckets[holders] += np.uint32(0x10000) - (thresholds & np.uint32(0xFFFF))
    return _frozen(buckets)


def encode_srgb(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the codes of float32 linear light, in the same shape: for each x, the number of thresholds <= x."""
    bits = np.fmin(np.fmax(linear, SRGB_LEAST), np.float32(1)).view(np.uint32)
    buckets = srgb_buckets()[(bits >> np.uint32(16)) - np.uint32(0x3900)]
    codes: NDArray[np.uint8] = ((buckets + (bits & np.uint32(0xFFFF))) >> np.uint32(16)).astype(np.uint8)
    return codes


@cache
def _srgb16_thresholds() -> NDArray[np.float32]:
    """Return the same as `srgb_thresholds` for codes of 16 bits: (65535,) float32."""
    return _thresholds(65535)


def encode_srgb16(linear: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the 16-bit codes of float32 linear light, in the same shape; clamped to [0, 1], NaN becomes 0.

    They are written to files, not to tiles.
    """
    clamped = np.fmin(np.fmax(linear, np.float32(0)), np.float32(1))
    codes: NDArray[np.uint16] = np.searchsorted(_srgb16_thresholds(), clamped, side="right").astype(np.uint16)
    return codes


def encode_unorm8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the codes of linear alpha in [0, 1], in the same shape: rint(x * 255) in float32, half to even."""
    codes: NDArray[np.uint8] = np.rint(values * np.float32(255)).astype(np.uint8)
    return codes


def automatic_class_color(ids: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the colors of classes that were given none: (N,) non-negative integers to (N, 4) uint8 sRGB, alpha 255.

    Hues are golden-ratio steps, frac(id * 0.618034) in float32; HSV(hue, 0.85, 0.5) is read as linear RGB.
    """
    hue = np.mod(ids.astype(np.float32) * np.float32(0.618034), np.float32(1))
    # HSV to RGB as in https://en.wikipedia.org/wiki/HSL_and_HSV#HSV_to_RGB_alternative
    k = np.mod(np.array([5, 3, 1], np.float32) + hue[:, None] * np.float32(6), np.float32(6))
    linear = np.float32(0.5) * (np.float32(1) - np.float32(0.85) * np.clip(np.minimum(k, np.float32(4) - k), 0, 1))
    return np.concatenate([encode_srgb(linear), np.full((len(ids), 1), OPAQUE, np.uint8)], axis=1)


@cache
def _automatic_palette(size: int) -> NDArray[np.uint8]:
    palette = automatic_class_color(np.arange(size))
    palette[0] = 0
    return _frozen(palette)


def class_palette(colors: Mapping[int, Sequence[int]], size: int) -> NDArray[np.uint8]:
    """Return the colors of all classes of a segmentation: (size, 4) uint8 sRGB with straight alpha, indexed by id.

    `colors`: the (r, g, b) or (r, g, b, a) of annotated ids; other ids get automatic colors, and id 0 is transparent.
    `size`: 256 or 65536; annotated ids that are not less than it are left out.
    """
    palette = _automatic_palette(size).copy()
    for class_id, color in colors.items():
        if class_id < size:
            palette[class_id] = (*color, OPAQUE)[:4]
    return _frozen(palette)


@cache
def turbo() -> NDArray[np.uint8]:
    """Return the colormap Turbo: (256, 3) uint8 sRGB, from low to high.

    By Anton Mikhailov (copyright 2019 Google LLC, Apache-2.0):
    https://research.google/blog/turbo-an-improved-rainbow-colormap-for-visualization/
    """
    return _frozen(np.frombuffer(bytes.fromhex(_TURBO), np.uint8).reshape(256, 3))


_TURBO = """
    30123b32154333184a341b51351e5836215f37246638276d392a733a2d793b2f803c32863d358b3e38913f3b973f3e9c
    4040a24143a74146ac4249b1424bb5434eba4451bf4454c34456c74559cb455ccf455ed34661d64664da4666dd4669e0
    466be3476ee64771e94773eb4776ee4778f0477bf2467df44680f64682f84685fa4687fb458afc458cfd448ffe4391fe
    4294ff4196ff4099ff3e9bfe3d9efe3ba0fd3aa3fc38a5fb37a8fa35abf833adf731aff52fb2f42eb4f22cb7f02ab9ee
    28bceb27bee925c0e723c3e422c5e220c7df1fc9dd1ecbda1ccdd81bd0d51ad2d21ad4d019d5cd18d7ca18d9c818dbc5
    18ddc218dec018e0bd19e2bb19e3b91ae4b61ce6b41de7b21fe9af20eaac22ebaa25eca727eea42aefa12cf09e2ff19b
    32f29835f39438f4913cf58e3ff68a43f78746f8844af8804ef97d52fa7a55fa7659fb735dfc6f61fc6c65fd6969fd66
    6dfe6271fe5f75fe5c79fe597dff5680ff5384ff5188ff4e8bff4b8fff4992ff4796fe4499fe429cfe409ffd3fa1fd3d
    a4fc3ca7fc3aa9fb39acfb38affa37b1f936b4f836b7f735b9f635bcf534bef434c1f334c3f134c6f034c8ef34cbed34
    cdec34d0ea34d2e935d4e735d7e535d9e436dbe236dde037dfdf37e1dd37e3db38e5d938e7d739e9d539ebd339ecd13a
    eecf3aefcd3af1cb3af2c93af4c73af5c53af6c33af7c13af8be39f9bc39faba39fbb838fbb637fcb336fcb136fdae35
    fdac34fea933fea732fea431fea130fe9e2ffe9b2dfe992cfe962bfe932afe9029fd8d27fd8a26fc8725fc8423fb8122
    fb7e21fa7b1ff9781ef9751df8721cf76f1af66c19f56918f46617f36315f26014f15d13f05b12ef5811ed5510ec530f
    eb500eea4e0de84b0ce7490ce5470be4450ae2430ae14109df3f08dd3d08dc3b07da3907d83706d63506d43305d23105
    d02f05ce2d04cc2b04ca2a04c82803c52603c32503c12302be2102bc2002b91e02b71d02b41b01b21a01af1801ac1701
    a91601a71401a41301a112019e10019b0f01980e01950d01920b018e0a018b09028808028507028106027e05027a0403
"""
