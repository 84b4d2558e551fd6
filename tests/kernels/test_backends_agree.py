"""numpy is the specification: the others' payloads are its payloads, byte for byte, padding and value ranges included.

The CUDA kernels run on the CPU here; see test_cuda_kernels.py for what only they have.
"""

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.kernels.cuda.cuda_on_cpu.device import CpuDevice

from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.selection import select_host_backend
from lumatile_kernels.tables import class_palette

NUMPY = NumpyBackend()
OTHERS = [pytest.param(CudaBackend(CpuDevice(blocks=3, order="mixed"), select_host_backend), id="cuda")]
if find_spec("numba"):
    from lumatile_kernels.host.numba_backend import NumbaBackend

    OTHERS.append(pytest.param(NumbaBackend(threads=3), id="numba"))


@pytest.fixture(scope="module", params=OTHERS)
def other(request):
    """A backend, which has computed everything itself."""
    yield request.param
    assert getattr(request.param, "fallbacks", 0) == 0


SHAPES = [(1, 1), (2, 3), (1, 4096), (4096, 1), (513, 3), (255, 256), (256, 257), (257, 255), (300, 517), (700, 1100)]
EXTREMES = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 6e-8, -6e-8, 2**-14, 65504, 65519.99, -65520, 3.4e38, -3.4e38, 1e300]
EXTREMES += [np.nan, -np.nan, np.inf, -np.inf]


def arrays(shape, dtype, seed):
    """Random bits, random numbers near 1, extreme values and constant areas: each a quarter, by columns."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    array = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype)[..., 0]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            extremes = rng.choice(np.array(EXTREMES), shape).astype(dtype)
            mild = rng.normal(0.5, 0.5, shape).astype(dtype)
        kind = rng.integers(0, 3, shape)
        array = np.choose(kind, [array, mild, extremes])
    array[rng.random(shape) < 0.25] = array.flat[0]
    return array


def dirty(fill):
    return lambda nbytes: np.full(nbytes, fill, np.uint8)


def assert_same(expected, actual):
    """The same blocks, whatever memory they are in."""
    for one, other in zip(expected, actual, strict=True):
        assert one.plane == other.plane
        assert one.payload.tobytes() == other.payload.tobytes()
        assert one.tiles.offset.tolist() == other.tiles.offset.tolist()
        if one.value_range is None:
            assert other.value_range is None
        else:
            np.testing.assert_array_equal(one.value_range, other.value_range)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    channels=st.sampled_from([1, 3, 4]),
    dtype=st.sampled_from(["u1", "u2", "f2", "f4", "f8"]),
    tile_format=st.sampled_from(["linear", "srgb8", "rgba32float"]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape=(1100, 1500), channels=3, dtype="u1", tile_format="linear", seed=0)
@example(shape=(1100, 1500), channels=4, dtype="f4", tile_format="rgba32float", seed=0)
def test_images(other, shape, channels, dtype, tile_format, seed):
    image = arrays((*shape, channels), dtype, seed)
    assert_same(
        NUMPY.image(image, tile_format=tile_format, allocate=dirty(0xAB)),
        other.image(image, tile_format=tile_format, allocate=dirty(0xCD)),
    )


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(["u1", "u2", "f2", "f4", "f8"]),
    meter=st.sampled_from([1, 1000, 0.001, 3, 1e30, 1e-30, 1e-44, 3e38]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape=(2100, 1500), dtype="u2", meter=1000, seed=0)
def test_depth(other, shape, dtype, meter, seed):
    depth = arrays(shape, dtype, seed)
    assert_same(
        NUMPY.depth(depth, meter=meter, allocate=dirty(0xAB)), other.depth(depth, meter=meter, allocate=dirty(0xCD))
    )


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(["u1", "u2"]),
    modulus=st.sampled_from([2, 3, 5, 65536]),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape=(2100, 1500), dtype="u2", modulus=5, seed=0)
def test_segmentation(other, shape, dtype, modulus, seed):
    ids = (arrays(shape, dtype, seed) % np.uint32(modulus)).astype(dtype)
    palette = class_palette({1: (1, 2, 3, 4)}, 256 ** np.dtype(dtype).itemsize)
    assert_same(
        NUMPY.segmentation(ids, palette=palette, allocate=dirty(0xAB)),
        other.segmentation(ids, palette=palette, allocate=dirty(0xCD)),
    )


def test_read_only_input_is_fine(other):
    image = arrays((300, 300, 3), "u1", 0)
    image.flags.writeable = False
    assert_same(NUMPY.image(image), other.image(image))
