import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data


def metres(value, meter):
    """One depth in metres, 0 where invalid: an IEEE division in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        depth = np.float32(value) / np.float32(meter)
    return float(depth) if math.isfinite(depth) and depth > 0 else 0.0


def lower_median(values):
    """The lower median of what is valid."""
    valid = sorted(v for v in values if v > 0)
    return valid[(len(valid) - 1) // 2] if valid else 0.0


def pyramid(level):
    """All levels of a list of rows of metres, one texel after another."""
    levels = [level]
    while max(len(level), len(level[0])) > 256:
        h, w = len(level), len(level[0])
        level = [
            [
                lower_median([level[min(y + dy, h - 1)][min(x + dx, w - 1)] for dy in (0, 1) for dx in (0, 1)])
                for x in range(0, w, 2)
            ]
            for y in range(0, h, 2)
        ]
        levels.append(level)
    return levels


VALUES = {
    "u1": [0, 1, 2, 3, 255],
    "u2": [0, 1, 999, 1000, 65535],
    "f2": [0, -0.0, -1, 6e-8, 0.5, 65504, math.inf, -math.inf, math.nan],
    "f4": [0, -0.0, -1, 1e-45, 0.5, 0.1, 3.4e38, math.inf, -math.inf, math.nan],
    "f8": [0, -0.0, -1, 1e-60, 0.5, 0.1, 1e300, math.inf, -math.inf, math.nan],
}


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(sorted(VALUES)),
    shape=st.sampled_from([(1, 1), (1, 257), (300, 3), (3, 513), (4, 260)]),
    meter=st.sampled_from([1, 1000, 0.3, 1e-30, 1e30, 1e-44, 3e38]),
    seed=st.integers(0, 9),
)
def test_levels_are_lower_medians_of_valid_metres(backend, assemble, dirty, dtype, shape, meter, seed):
    with np.errstate(over="ignore"):
        depth = np.random.default_rng(seed).choice(np.array(VALUES[dtype], np.float64), shape).astype(dtype)
    levels = assemble(backend.depth(depth, meter=meter, allocate=dirty), np.float32, 1)
    expected = pyramid([[metres(v, meter) for v in row] for row in depth])
    assert len(levels) == len(expected)
    for actual, rows in zip(levels, expected, strict=True):
        assert actual[..., 0].tobytes() == np.array(rows, np.float32).tobytes()


@pytest.mark.parametrize(
    ("quad", "median"),
    [
        ([1, 2, 3, 4], 2),
        ([4, 3, 2, 1], 2),
        ([0, 3, 1, 2], 2),
        ([0, 5, 0, 1], 1),
        ([0, 0, 0, 7], 7),
        ([0, 0, 0, 0], 0),
        ([5, 5, 1, 9], 5),
    ],
)
def test_the_median_is_the_lower_one_and_ignores_what_is_invalid(backend, assemble, quad, median):
    depth = np.zeros((2, 257), np.uint16)
    depth[:, :2] = np.array(quad).reshape(2, 2)
    assert assemble(backend.depth(depth, meter=1), np.float32, 1)[1][0, 0, 0] == median


def stereo_depth():
    """Metres from a real disparity map, whose occluded pixels are not finite (Middlebury 2014, Motorcycle)."""
    disparity = data.stereo_motorcycle()[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.ascontiguousarray(994.978 * 0.193 / (disparity + 31.086)).astype(np.float32)


def test_every_depth_of_a_real_mip_is_one_of_its_2x2(backend, assemble):
    levels = assemble(backend.depth(stereo_depth(), meter=1), np.float32, 1)
    assert len(levels) > 1
    for fine, coarse in pairwise(levels):
        h, w, _ = fine.shape
        even = np.pad(fine[..., 0], ((0, h % 2), (0, w % 2)), mode="edge")
        quads = np.stack([even[dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)])
        assert (quads == coarse[..., 0]).any(axis=0).all()
        assert ((coarse[..., 0] > 0) == (quads > 0).any(axis=0)).all(), "a hole closes where any depth is valid"


def test_value_ranges_are_those_of_the_valid_depths_of_each_tile(backend, dirty):
    depth = stereo_depth()
    depth[:256, :256] = np.nan
    seen = 0
    for block in backend.depth(depth, meter=1, allocate=dirty):
        for i in range(len(block.tiles)):
            t = block.tiles
            stored = block.payload[t.offset[i] :][: t.size[i]].reshape(t.height[i], t.row_pitch[i])
            values = stored.view(np.float32)[:, : t.width[i]]
            valid = values[values > 0]
            expected = (valid.min(), valid.max()) if valid.size else (np.nan, np.nan)
            np.testing.assert_array_equal(block.value_range[i], expected)
            seen += 1
    assert seen == 9
    assert np.isnan(next(backend.depth(depth, meter=1)).value_range[0]).all()
