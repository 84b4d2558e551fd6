import weakref

import numpy as np
import pytest

from lumatile_kernels.backend import BLOCK_BYTES
from lumatile_kernels.layout import pyramid_layout
from lumatile_kernels.tables import class_palette

PALETTE = class_palette({}, 256)


def all_kinds(backend, height, width, **options):
    """Blocks of a gray image, depth and a segmentation of that size."""
    yield backend.image(np.zeros((height, width, 1), np.uint8), **options)
    yield backend.depth(np.ones((height, width), np.uint16), meter=1000, **options)
    yield backend.segmentation(np.ones((height, width), np.uint8), palette=PALETTE, **options)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (300, 700), (1100, 1030), (2, 70_000)])
def test_blocks_are_the_payload_in_the_order_in_which_tile_rows_complete(backend, height, width):
    for blocks in all_kinds(backend, height, width):
        planes = {}
        for block in blocks:
            planes.setdefault(block.plane, []).append(block)
        for plane, own in planes.items():
            texel_bytes = {"pixels": 4 if own[0].value_range is not None else 8, "ids": 1, "colors": 4}[plane]
            layout = pyramid_layout(height, width, texel_bytes)
            expected = iter(range(len(layout.index)))
            start = 0
            for block in own:
                assert block.tiles.offset[0] == 0
                for i in range(len(block.tiles)):
                    k = next(expected)
                    for field in ("level", "x", "y", "width", "height", "row_pitch", "size"):
                        assert getattr(block.tiles, field)[i] == getattr(layout.index, field)[k]
                    assert block.tiles.offset[i] + start == layout.index.offset[k]
                start += len(block.payload)
                assert len(block.payload) == block.tiles.size.sum()
            assert start == layout.nbytes
            assert next(expected, None) is None


def test_a_block_ends_with_the_tile_row_that_fills_it(backend):
    def rows(height):
        blocks = backend.image(np.zeros((height, 990, 3), np.uint8))
        return [list(dict.fromkeys(zip(b.tiles.level.tolist(), b.tiles.y.tolist(), strict=True))) for b in blocks]

    assert 0.4 * BLOCK_BYTES < pyramid_layout(256, 990, 8).rows[0].nbytes < 0.5 * BLOCK_BYTES
    assert rows(300) == [[(0, 0), (0, 1), (1, 0), (2, 0)]]
    assert rows(1000) == [[(0, 0), (0, 1), (1, 0)], [(0, 2), (0, 3), (1, 1)], [(2, 0)]]


@pytest.mark.parametrize(("height", "width"), [(0, 0), (0, 5), (5, 0), (0, 600)])
def test_an_array_without_texels_has_no_blocks(backend, height, width):
    assert [list(blocks) for blocks in all_kinds(backend, height, width)] == [[], [], []]


def test_memory_is_bounded_by_tile_rows_whatever_the_height(backend):
    """A consumer that lets blocks go never holds more than a few blocks."""
    width = 3000
    row_bytes = pyramid_layout(256, width, 4).rows[0].nbytes

    def most_held(height):
        sizes = {}

        def allocate(nbytes):
            array = np.empty(nbytes, np.uint8)
            weakref.finalize(array, sizes.pop, len(held))
            held.append(nbytes)
            sizes[len(held) - 1] = nbytes
            most.append(sum(sizes.values()))
            return array

        held, most = [], []
        for block in backend.image(np.zeros((height, width, 1), np.uint8), tile_format="srgb8", allocate=allocate):
            assert block.payload.nbytes < BLOCK_BYTES + row_bytes
        return max(most)

    assert most_held(6000) < most_held(3000) + BLOCK_BYTES


def test_tile_rows_can_be_written_while_later_ones_are_computed(backend):
    taken = []

    def allocate(nbytes):
        taken.append(nbytes)
        return np.empty(nbytes, np.uint8)

    blocks = backend.image(np.zeros((3000, 3000, 1), np.uint8), allocate=allocate)
    assert taken == []
    first = next(blocks)
    assert (first.tiles.level[0], first.tiles.y[0]) == (0, 0)
    assert taken.count(first.payload.nbytes) == 1
