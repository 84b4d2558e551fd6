"""Image kernels.

A kernel takes row pairs `first` to `last` of a band of `rows` rows, in thread `part`. Lines are one row, channel by
channel: (channels, width). `texels` are the band's tiles as uint32, `words` of them a texel: 1 for rgba8unorm-srgb,
2 for rgba16float, 4 for rgba32float. `half` is empty where the band is not halved.

The file is longer than others because all functions that a kernel calls must be in its file; see `numba_jit.kernel`.
"""

# ruff: noqa: ARG001, PLR0917 - compiled functions take many arrays; all kernels are called alike

from __future__ import annotations

from typing import Any

import numpy as np

from lumatile_kernels.host.numba_jit import kernel
from lumatile_kernels.layout import PITCH, TILE

f32 = np.float32
u32 = np.uint32  # numba widens integers, so every operation is narrowed again

PITCH_WORDS = PITCH // 4
OPAQUE_CODE = u32(0xFF000000)
OPAQUE_HALF = u32(0x3C000000)
OPAQUE_FLOAT = u32(0x3F800000)


@kernel
def half_bits(x: Any) -> Any:
    """Return the bits of the float16 that is nearest to a float32 in +-65504, half to even."""
    magnitude = f32(abs(x))
    bits = magnitude.view(np.uint32)
    sign = u32(u32(f32(x).view(np.uint32) >> u32(16)) & u32(0x8000))
    # the exponent's bias falls by 112; 0xFFF and the last bit that stays round half to even
    odd = u32(u32(bits >> u32(13)) & u32(1))
    normal = u32(u32(bits - u32((112 << 23) - 0xFFF)) + odd) >> u32(13)
    # adding 0.5 rounds to a multiple of 2**-24, the unit of a subnormal number
    subnormal = u32(f32(magnitude + f32(0.5)).view(np.uint32) - u32(0x3F000000))
    return u32(sign | (subnormal if magnitude < f32(2**-14) else normal))


@kernel
def srgb_code(x: Any, buckets: Any) -> Any:
    """Return the sRGB code of linear light in [0, 1]; see `tables.srgb_buckets`."""
    bits = f32(max(x, f32(2**-13))).view(np.uint32)
    return u32(u32(buckets[u32(u32(bits >> u32(16)) - u32(0x3900))] + u32(bits & u32(0xFFFF))) >> u32(16))


@kernel
def pack_codes(red: Any, green: Any, blue: Any) -> Any:
    """Return an opaque rgba8 texel."""
    return u32(u32(u32(red) | u32(u32(green) << u32(8))) | u32(u32(u32(blue) << u32(16)) | OPAQUE_CODE))


@kernel
def store(out: Any, red: Any, green: Any, blue: Any, words: Any, buckets: Any) -> None:
    """Store one row of a tile from lines of linear light."""
    if words == 1:
        for x in range(len(red)):
            out[x] = pack_codes(srgb_code(red[x], buckets), srgb_code(green[x], buckets), srgb_code(blue[x], buckets))
    elif words == 2:
        for x in range(len(red)):
            out[2 * x] = u32(half_bits(red[x]) | u32(half_bits(green[x]) << u32(16)))
            out[2 * x + 1] = u32(half_bits(blue[x]) | OPAQUE_HALF)
    else:
        for x in range(len(red)):
            out[4 * x] = f32(red[x]).view(np.uint32)
            out[4 * x + 1] = f32(green[x]).view(np.uint32)
            out[4 * x + 2] = f32(blue[x]).view(np.uint32)
            out[4 * x + 3] = OPAQUE_FLOAT


@kernel
def store_alpha(out: Any, alpha: Any, words: Any) -> None:
    """Replace the alpha of a row that `store` wrote."""
    if words == 1:
        for x in range(len(alpha)):
            code = u32(np.rint(f32(alpha[x] * f32(255))))
            out[x] = u32(u32(out[x] & u32(0xFFFFFF)) | u32(code << u32(24)))
    elif words == 2:
        for x in range(len(alpha)):
            out[2 * x + 1] = u32(u32(out[2 * x + 1] & u32(0xFFFF)) | u32(half_bits(alpha[x]) << u32(16)))
    else:
        for x in range(len(alpha)):
            out[4 * x + 3] = f32(alpha[x]).view(np.uint32)


@kernel
def store_codes(out: Any, red: Any, green: Any, blue: Any, words: Any, stored: Any) -> None:
    """Store one row of a tile from lines of opaque codes.

    `stored`: the bits that each code becomes; empty if a code is stored unchanged (uint8 in rgba8unorm-srgb).
    """
    if len(stored) == 0:
        for x in range(len(red)):
            out[x] = pack_codes(red[x], green[x], blue[x])
    elif words == 1:
        for x in range(len(red)):
            out[x] = pack_codes(stored[red[x]], stored[green[x]], stored[blue[x]])
    elif words == 2:
        for x in range(len(red)):
            out[2 * x] = u32(stored[red[x]] | u32(stored[green[x]] << u32(16)))
            out[2 * x + 1] = u32(stored[blue[x]] | OPAQUE_HALF)
    else:
        for x in range(len(red)):
            out[4 * x] = stored[red[x]]
            out[4 * x + 1] = stored[green[x]]
            out[4 * x + 2] = stored[blue[x]]
            out[4 * x + 3] = OPAQUE_FLOAT


@kernel
def place(texels: Any, y: Any, rows: Any, left: Any, right: Any, words: Any) -> Any:
    """Return begin and end in `texels` of row `y` of the tile of columns `left` to `right`; zero its padding."""
    n = (right - left) * words
    pitch = -(-n // PITCH_WORDS) * PITCH_WORDS
    start = left * words * rows + y * pitch
    for x in range(start + n, start + pitch):
        texels[x] = 0
    return start, start + n


@kernel
def store_row(texels: Any, y: Any, rows: Any, lines: Any, words: Any, buckets: Any) -> None:
    """Store row `y` of a band from lines of linear light."""
    channels, width = lines.shape
    green, blue = min(1, channels - 1), min(2, channels - 1)
    for left in range(0, width, TILE):
        right = min(left + TILE, width)
        start, end = place(texels, y, rows, left, right, words)
        out = texels[start:end]
        store(out, lines[0, left:right], lines[green, left:right], lines[blue, left:right], words, buckets)
        if channels == 4:
            store_alpha(out, lines[3, left:right], words)


@kernel
def store_code_row(texels: Any, y: Any, rows: Any, lines: Any, words: Any, stored: Any) -> None:
    """Store row `y` of a band from lines of opaque codes."""
    channels, width = lines.shape
    green, blue = min(1, channels - 1), min(2, channels - 1)
    for left in range(0, width, TILE):
        right = min(left + TILE, width)
        start, end = place(texels, y, rows, left, right, words)
        out = texels[start:end]
        store_codes(out, lines[0, left:right], lines[green, left:right], lines[blue, left:right], words, stored)


@kernel
def mean(a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the mean of a 2x2 square."""
    return f32(f32(f32(a + b) + f32(c + d)) * f32(0.25))


@kernel
def halve(out: Any, upper: Any, lower: Any) -> None:
    """Write the mean of each 2x2 square of two lines."""
    last = len(upper) - 1
    for x in range(len(upper) // 2):
        out[x] = mean(upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1])
    if last % 2 == 0:
        out[last // 2] = mean(upper[last], upper[last], lower[last], lower[last])


@kernel
def halve_lines(out: Any, upper: Any, lower: Any) -> None:
    """Write the mean of each 2x2 square of two rows, channel by channel."""
    for k in range(len(out)):
        halve(out[k], upper[k], lower[k])


@kernel
def halve_codes(out: Any, upper: Any, lower: Any, linear: Any) -> None:
    """Write the mean of each 2x2 square of two lines of codes, in linear light."""
    last = len(upper) - 1
    for x in range(len(upper) // 2):
        a, b = linear[upper[2 * x]], linear[upper[2 * x + 1]]
        c, d = linear[lower[2 * x]], linear[lower[2 * x + 1]]
        out[x] = mean(a, b, c, d)
    if last % 2 == 0:
        a, c = linear[upper[last]], linear[lower[last]]
        out[last // 2] = mean(a, a, c, c)


@kernel
def split(lines: Any, pixels: Any) -> None:
    """Split interleaved pixels into lines; strides that the compiler knows make it fast."""
    channels = len(lines)
    if channels == 1:
        for x in range(len(pixels)):
            lines[0, x] = pixels[x]
    elif channels == 3:
        for x in range(len(pixels) // 3):
            lines[0, x] = pixels[3 * x]
            lines[1, x] = pixels[3 * x + 1]
            lines[2, x] = pixels[3 * x + 2]
    else:
        for x in range(len(pixels) // 4):
            lines[0, x] = pixels[4 * x]
            lines[1, x] = pixels[4 * x + 1]
            lines[2, x] = pixels[4 * x + 2]
            lines[3, x] = pixels[4 * x + 3]


@kernel
def look_up(line: Any, codes: Any, table: Any) -> None:
    """Look up a line of codes in a table."""
    for x in range(len(line)):
        line[x] = table[codes[x]]


@kernel
def clamp(line: Any, low: Any, high: Any) -> None:
    """Clamp a line; NaN and -0.0 become +0."""
    for x in range(len(line)):
        value = f32(0) if np.isnan(line[x]) else f32(line[x] + f32(0))
        line[x] = min(max(value, low), high)


@kernel
def premultiply(lines: Any) -> None:
    """Multiply color by alpha; adding 0 turns -0.0 into +0."""
    for k in range(3):
        for x in range(lines.shape[1]):
            lines[k, x] = f32(f32(lines[k, x] * lines[3, x]) + f32(0))


@kernel
def opaque_code_rows(
    band: Any,
    linear: Any,
    stored: Any,
    words: Any,
    scratch: Any,
    texels: Any,
    half: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve level 0 of opaque unsigned integers, (rows, width * channels), which index the tables.

    `scratch`: (parts, 2, channels, width) of the band's dtype.
    """
    rows, codes = len(band), scratch[part]
    for pair in range(first, last):
        for y in range(2 * pair, min(2 * pair + 2, rows)):
            split(codes[y % 2], band[y])
            store_code_row(texels, y, rows, codes[y % 2], words, stored)
        if len(half):
            lower = min(2 * pair + 1, rows - 1) % 2
            for k in range(codes.shape[1]):
                halve_codes(half[pair, k], codes[0, k], codes[lower, k], linear)


@kernel
def alpha_code_rows(
    band: Any,
    linear: Any,
    alpha: Any,
    buckets: Any,
    words: Any,
    codes: Any,
    scratch: Any,
    texels: Any,
    half: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve level 0 of unsigned integers with alpha, (rows, width * 4), which index the tables.

    `codes`: (parts, 2, 4, width) of the band's dtype; `scratch`: the same in float32.
    """
    rows, lines = len(band), scratch[part]
    for pair in range(first, last):
        for y in range(2 * pair, min(2 * pair + 2, rows)):
            split(codes[part, 0], band[y])
            for k in range(4):
                look_up(lines[y % 2, k], codes[part, 0, k], alpha if k == 3 else linear)
            premultiply(lines[y % 2])
            store_row(texels, y, rows, lines[y % 2], words, buckets)
        if len(half):
            halve_lines(half[pair], lines[0], lines[min(2 * pair + 1, rows - 1) % 2])


@kernel
def float_rows(
    band: Any,
    low: Any,
    high: Any,
    buckets: Any,
    words: Any,
    scratch: Any,
    texels: Any,
    half: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve level 0 of float32 or float64 linear light, (rows, width * channels).

    Colors are clamped to `low` ... `high`. `scratch`: (parts, 2, channels, width) float32.
    """
    rows, lines = len(band), scratch[part]
    for pair in range(first, last):
        for y in range(2 * pair, min(2 * pair + 2, rows)):
            split(lines[y % 2], band[y])
            for k in range(min(3, lines.shape[1])):
                clamp(lines[y % 2, k], low, high)
            if lines.shape[1] == 4:
                clamp(lines[y % 2, 3], f32(0), f32(1))
                premultiply(lines[y % 2])
            store_row(texels, y, rows, lines[y % 2], words, buckets)
        if len(half):
            halve_lines(half[pair], lines[0], lines[min(2 * pair + 1, rows - 1) % 2])


@kernel
def carried_rows(
    band: Any,
    buckets: Any,
    words: Any,
    texels: Any,
    half: Any,
    part: int,
    first: int,
    last: int,
) -> None:
    """Store and halve any other level, (rows, channels, width) linear light."""
    rows = len(band)
    for pair in range(first, last):
        lower = min(2 * pair + 1, rows - 1)
        for y in range(2 * pair, lower + 1):
            store_row(texels, y, rows, band[y], words, buckets)
        if len(half):
            halve_lines(half[pair], band[2 * pair], band[lower])
