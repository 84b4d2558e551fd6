from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, measure

from lumatile_kernels.tables import class_palette


def mode(quad):
    """The most frequent; of equally frequent ones the first in raster order."""
    counts = Counter(quad)
    return max(quad, key=lambda v: (counts[v], -quad.index(v)))


def pyramid(level):
    """All levels of rows of ids, one texel after another."""
    levels = [level]
    while max(len(level), len(level[0])) > 256:
        h, w = len(level), len(level[0])
        level = [
            [
                mode([level[min(y + dy, h - 1)][min(x + dx, w - 1)] for dy in (0, 1) for dx in (0, 1)])
                for x in range(0, w, 2)
            ]
            for y in range(0, h, 2)
        ]
        levels.append(level)
    return levels


def palette_for(dtype):
    return class_palette({1: (255, 0, 0), 2: (1, 2, 3, 4)}, 256 ** np.dtype(dtype).itemsize)


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "u2"]),
    shape=st.sampled_from([(1, 1), (1, 257), (300, 3), (3, 513), (4, 260)]),
    classes=st.sampled_from([2, 3, 256]),
    seed=st.integers(0, 9),
)
def test_levels_are_modes_and_their_colors(backend, assemble, dirty, dtype, shape, classes, seed):
    ids = np.random.default_rng(seed).integers(0, classes, shape).astype(dtype)
    if dtype == "u2":
        ids *= 250
    palette = palette_for(dtype)
    blocks = list(backend.segmentation(ids, palette=palette, allocate=dirty))
    levels, colors = assemble(blocks, dtype, 1, "ids"), assemble(blocks, np.uint8, 4, "colors")
    expected = pyramid(ids.tolist())
    assert len(levels) == len(colors) == len(expected)
    for actual, color, rows in zip(levels, colors, expected, strict=True):
        np.testing.assert_array_equal(actual[..., 0], rows)
        np.testing.assert_array_equal(color, palette[actual[..., 0]])


@pytest.mark.parametrize(
    ("quad", "winner"),
    [
        ([1, 2, 3, 4], 1),
        ([1, 2, 2, 1], 1),
        ([2, 1, 1, 3], 1),
        ([2, 1, 3, 1], 1),
        ([3, 2, 1, 1], 1),
        ([4, 4, 1, 1], 4),
        ([1, 4, 4, 4], 4),
    ],
)
def test_ties_go_to_the_first_in_raster_order(backend, assemble, quad, winner):
    ids = np.zeros((2, 257), np.uint8)
    ids[:, :2] = np.array(quad).reshape(2, 2)
    blocks = backend.segmentation(ids, palette=palette_for("u1"))
    assert assemble(blocks, np.uint8, 1, "ids")[1][0, 0, 0] == winner


def test_no_mip_of_a_real_segmentation_invents_a_class(backend, assemble):
    coins = data.coins()
    ids = measure.label(coins > 110).astype(np.uint16)
    levels = assemble(backend.segmentation(ids, palette=palette_for("u2")), np.uint16, 1, "ids")
    assert len(levels) == 2
    h, w, _ = levels[0].shape
    even = np.pad(levels[0][..., 0], ((0, h % 2), (0, w % 2)), mode="edge")
    quads = np.stack([even[dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)])
    assert (quads == levels[1][..., 0]).any(axis=0).all()


def test_value_ranges_are_the_ids_of_each_tile(backend, dirty):
    ids = np.random.default_rng(0).integers(3, 200, (300, 600)).astype(np.uint8)
    ids[:256, 256:512] = 9
    blocks = list(backend.segmentation(ids, palette=palette_for("u1"), allocate=dirty))
    by_plane = {b.plane: b for b in blocks}
    assert set(by_plane) == {"ids", "colors"}
    assert by_plane["colors"].value_range is None
    block = by_plane["ids"]
    assert block.value_range[1].tolist() == [9, 9]
    for i in range(len(block.tiles)):
        t = block.tiles
        stored = block.payload[t.offset[i] :][: t.size[i]].reshape(t.height[i], t.row_pitch[i])[:, : t.width[i]]
        assert block.value_range[i].tolist() == [stored.min(), stored.max()]
