"""Every CUDA kernel, run on the CPU, makes what numpy makes: bit for bit, padding and value ranges included.

Random images of many shapes are in test_backends_agree.py. Here: each kernel there is, each code there is, several
passes, several frames of one launch, and that what runs the kernels sees it when they are wrong.

Longer than other files: its tests share the kernels that a fixture compiles.
"""

import ctypes
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests.kernels.cuda.cuda_on_cpu import device as cuda_on_cpu
from tests.kernels.cuda.cuda_on_cpu.device import (
    ORDERS,
    CpuDevice,
    HostMemory,
    build,
    library_of,
    on_device,
    run_kernel,
)
from tests.kernels.test_backends_agree import arrays, assert_same, dirty

from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.opaque import ALPHA
from lumatile_kernels.cuda.passes import LEVELS, PASS
from lumatile_kernels.cuda.points import CLOUD
from lumatile_kernels.cuda.sources import (
    TEXEL_BYTES,
    TRANSLUCENT,
    all_kernels,
    depth_kernel,
    image_kernel,
    points_kernel,
    segmentation_kernel,
    source_text,
)
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.layout import level_sizes
from lumatile_kernels.selection import select_host_backend
from lumatile_kernels.tables import class_palette

ROOT = Path(__file__).parents[3]
NUMPY = NumpyBackend()
FORMATS = {str(nbytes): name for name, nbytes in TEXEL_BYTES.items()}
DTYPES = {"u8": "u1", "u16": "u2", "half": "f2", "float": "f4", "double": "f8"}
SHAPES = [(1, 1), (5, 3), (255, 256), (256, 257), (2, 1030)]
TALL = [(20_001, 3), (1, 20_000)]
KERNELS = list(all_kernels())


@pytest.fixture(scope="module", autouse=True)
def libraries():
    """Compiled in parallel: it is most of what these tests take."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(library_of, {(k.files, k.defines): k for k in KERNELS}.values()))


@pytest.fixture
def make_backend():
    """Makes backends on the CPU, which must have done everything themselves in the end."""
    made = []

    def make(**options):
        made.append(CudaBackend(CpuDevice(**options), select_host_backend))
        return made[-1]

    yield make
    for backend in made:
        assert backend.fallbacks == 0
        assert backend.device.intact()


def frame(kernel, shape, seed):
    """An array of a kernel's, and what asks a backend for its blocks."""
    defines = dict(kernel.defines)
    dtype = DTYPES[defines["SOURCE"]]
    if kernel.name == "image_tiles":
        image = arrays((*shape, int(defines["CHANNELS"])), dtype, seed)
        return lambda backend, fill: backend.image(image, tile_format=FORMATS[defines["FORMAT"]], allocate=dirty(fill))
    if kernel.name == "depth_tiles":
        depth = arrays(shape, dtype, seed)
        return lambda backend, fill: backend.depth(depth, meter=1000, allocate=dirty(fill))
    ids = arrays(shape, dtype, seed) % 7
    palette = class_palette({3: (1, 2, 3, 4)}, 256 ** np.dtype(dtype).itemsize)
    return lambda backend, fill: backend.segmentation(ids, palette=palette, allocate=dirty(fill))


def kernel_name(kernel):
    return "-".join([kernel.name, *(value for _, value in kernel.defines)])


@pytest.mark.parametrize("kernel", [k for k in KERNELS if "pyramid.cu" in k.files], ids=kernel_name)
def test_each_kernel_makes_what_numpy_makes(make_backend, kernel):
    backend = make_backend(order="backwards")
    for seed, shape in enumerate(TALL if ("CARRIED", "1") in kernel.defines else SHAPES):
        blocks = frame(kernel, shape, seed)
        assert_same(blocks(NUMPY, 0xAB), blocks(backend, 0xCD))
    assert kernel in backend.device.launched


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.files == ("points.cu",)], ids=kernel_name)
def test_each_kernel_orders_points_as_numpy_does(make_backend, kernel):
    defines = dict(kernel.defines)
    backend = make_backend(order="backwards")
    for seed, count in enumerate([1, 2, 300, 65_537]):
        positions = arrays((count, int(defines["AXES"])), DTYPES[defines["SOURCE"]], seed)
        with np.errstate(invalid="ignore"):  # signalling NaN
            assert_same_order(NUMPY.points(positions), backend.points(positions))
    assert kernel in backend.device.launched


def assert_same_order(expected, actual):
    assert expected.counts == actual.counts
    for name in ("origin", "positions", "order"):
        one, other = getattr(expected, name), getattr(actual, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


def test_any_pixel_that_is_not_opaque_is_found(make_backend):
    backend = make_backend()
    image = np.full((70, 301, 4), 255, np.uint8)
    assert backend.is_opaque(on_device(backend.device, image))
    for y, x in [(0, 0), (69, 300), (35, 7)]:
        one = image.copy()
        one[y, x, 3] = 254
        assert not backend.is_opaque(on_device(backend.device, one))
    assert TRANSLUCENT in backend.device.launched


@pytest.mark.parametrize("tile_format", TEXEL_BYTES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f2"])
def test_every_code_and_every_float16(make_backend, dtype, channels, tile_format):
    codes = np.arange(65536).astype("u2").view(dtype).reshape(256, -1)
    if dtype == "u1":
        codes = codes[:, ::2]
    image = np.stack([codes, np.roll(codes, 31), np.roll(codes, 77), codes.T], axis=2)  # u1: each color with each alpha
    image = np.ascontiguousarray(image[..., :channels])
    assert_same(NUMPY.image(image, tile_format=tile_format), make_backend().image(image, tile_format=tile_format))


@pytest.mark.parametrize("dtype", ["u2", "f2"])
@pytest.mark.parametrize("meter", [1.0, 1000.0, 3e38, 1e-44])
def test_every_16_bit_depth(make_backend, dtype, meter):
    depth = np.random.default_rng(0).permutation(65536).astype("u2").view(dtype).reshape(256, 256)
    assert_same(NUMPY.depth(depth, meter=meter), make_backend().depth(depth, meter=meter))


@pytest.mark.parametrize("value", [0, 1, 255])
def test_images_of_one_value(make_backend, value):
    image = np.full((300, 280, 3), value, np.uint8)
    palette = class_palette({}, 256)
    backend = make_backend()
    assert_same(NUMPY.image(image), backend.image(image))
    assert_same(NUMPY.depth(image[..., 0].copy(), meter=1), backend.depth(image[..., 0].copy(), meter=1))
    ids = image[..., 0].copy()
    assert_same(NUMPY.segmentation(ids, palette=palette), backend.segmentation(ids, palette=palette))


@pytest.mark.parametrize("shape", [(1, 8192), (1, 8193), *TALL, (1, 256 * 2**10 + 1)])  # 6, 7, 8, 8 and 12 levels
def test_a_tall_pyramid_takes_as_many_passes_as_it_needs(make_backend, shape):
    depth = arrays(shape, "u1", 0)
    backend = make_backend(blocks=7)
    assert_same(NUMPY.depth(depth, meter=10), backend.depth(depth, meter=10))
    passes = -(-len(level_sizes(*shape)) // LEVELS)
    carried = depth_kernel(np.dtype("f4"), carried=True)
    assert backend.device.launched == [depth_kernel(np.dtype("u1")), *[carried] * (passes - 1)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("blocks", [1, 3, 10_000])
def test_how_many_blocks_run_and_in_which_order_is_all_the_same(make_backend, blocks, order):
    backend = make_backend(blocks=blocks, order=order)
    for kernel in (
        image_kernel(np.dtype("u1"), 3, "linear"),
        image_kernel(np.dtype("f4"), 4, "srgb8"),
        depth_kernel(np.dtype("u2")),
        segmentation_kernel(np.dtype("u1")),
    ):
        frames = [frame(kernel, (330, 517), seed) for seed in range(3)]
        started = [blocks(backend, 0xCD) for blocks in frames]
        for expected, actual in zip(frames, started, strict=True):
            assert_same(expected(NUMPY, 0xAB), actual)
    positions = np.random.default_rng(0).normal(size=(70_000, 3)).astype("f4")
    assert_same_order(NUMPY.points(positions), backend.points(positions))


@pytest.mark.parametrize("shape", [(1, 1), (37, 41), (2, 20_000)])
def test_frames_of_one_launch_are_not_mixed_up(make_backend, shape):
    backend = make_backend(blocks=5)
    kernel = segmentation_kernel(np.dtype("u2"))
    frames = [frame(kernel, shape, seed) for seed in range(32 if shape[1] < 100 else 3)]
    started = [blocks(backend, 0xCD) for blocks in frames]
    for expected, actual in zip(frames, started, strict=True):
        assert_same(expected(NUMPY, 0xAB), actual)
    assert backend.device.launches == -(-len(level_sizes(*shape)) // LEVELS)


@pytest.mark.parametrize(
    ("kernel", "struct", "dtype"),
    [
        (depth_kernel(np.dtype("u1")), "Pass", PASS),
        (points_kernel("find_origin", np.dtype("f4"), 3), "Cloud", CLOUD),
        (TRANSLUCENT, "Alpha", ALPHA),
    ],
)
def test_python_and_the_kernels_agree_where_each_field_lies(kernel, struct, dtype):
    # array fields' elements are checked by their sizes
    expected = [dtype.itemsize]
    fields = [f"sizeof({struct})"]
    for name in dtype.names:
        expected += [dtype.fields[name][1], dtype[name].itemsize]
        fields += [f"offsetof({struct}, {name})", f"sizeof((({struct}*)0)->{name})"]
    text = f"""
extern "C" __attribute__((visibility("default"))) const size_t fields[] = {{{", ".join(fields)}}};
"""
    library = build(source_text(kernel) + text, kernel.defines, tuple(cuda_on_cpu.compiler()))
    found = (ctypes.c_size_t * len(expected)).in_dll(library, "fields")
    assert list(found) == expected


# what runs the kernels


BARRIER = "__syncthreads();"
BYTES_TO_LINEAR = image_kernel(np.dtype("u1"), 3, "linear")


WITHOUT = """
import numpy as np
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.sources import image_kernel, source_text
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.selection import select_host_backend
from tests.kernels.cuda.cuda_on_cpu import device as cuda_on_cpu

kernel = image_kernel(np.dtype("u1"), 3, "linear")
parts = source_text(kernel).split(BARRIER)
text = BARRIER.join(parts[:WHICH]) + BARRIER.join(parts[WHICH:])
library = cuda_on_cpu.compiled(text, kernel.defines, (kernel.name,), tuple(cuda_on_cpu.compiler()))
cuda_on_cpu.library_of = lambda _: library
image = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
expected = [block.payload.tobytes() for block in NumpyBackend().image(image)]
print("started", flush=True)
for order in cuda_on_cpu.ORDERS:
    backend = CudaBackend(cuda_on_cpu.CpuDevice(blocks=1, order=order), select_host_backend)
    assert expected == [block.payload.tobytes() for block in backend.image(image)]
print("equal")
"""


@pytest.mark.parametrize("which", range(source_text(BYTES_TO_LINEAR).count(BARRIER) + 1))
def test_a_missing_barrier_shows(which):
    """In a process of its own: what runs wild may end it. 0: none is missing."""
    script = f"BARRIER = {BARRIER!r}\nWHICH = {which}\n" + WITHOUT
    if which == 0:
        script = script.replace("BARRIER.join(parts[:WHICH]) + BARRIER.join(parts[WHICH:])", "source_text(kernel)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.split() == (["started", "equal"] if which == 0 else ["started"]), done.stderr


WRONG = """
struct Arguments {{ unsigned char* at; }};
extern "C" __global__ void wrong(const Arguments a) {{ {} }}
"""


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("*(unsigned*)(a.at + 2) = 1;", "an access is not aligned"),
        ("*(uint4*)(a.at + 8) = make_uint4(1, 2, 3, 4);", "an access is not aligned"),
        ("int i = 0x7FFFFFFF; *(int*)a.at = i + (int)threadIdx.x;", "a sum does not fit"),
        ("if (threadIdx.x < 255) __syncthreads();", "not all threads come to a __syncthreads"),
        ("if (threadIdx.x < 31) __shfl_xor_sync(-1, 0, 1);", "not all lanes of a warp come to an exchange"),
    ],
)
def test_what_is_undefined_in_a_kernel_is_an_error(statement, message):
    memory = HostMemory(64)
    arguments = np.array([(memory.pointer,)], [("at", np.uint64)])
    library = cuda_on_cpu.compiled(WRONG.format(statement), (), ("wrong",), tuple(cuda_on_cpu.compiler()))
    with pytest.raises(AssertionError, match=message):
        run_kernel(library, "wrong", arguments, 1)


@pytest.mark.parametrize("at", [-1, 64])
def test_a_write_beyond_memory_is_seen(at):
    device = CpuDevice()
    memory = device.allocate(64)
    arguments = np.array([(memory.pointer,)], [("at", np.uint64)])
    library = cuda_on_cpu.compiled(WRONG.format(f"a.at[{at}] = 1;"), (), ("wrong",), tuple(cuda_on_cpu.compiler()))
    assert device.intact()
    run_kernel(library, "wrong", arguments, 1)
    assert not device.intact()
    memory._bytes[...] = cuda_on_cpu.POISON  # so that no other test is told


def test_the_compiler_is_cxx_or_gcc_or_the_wheel(monkeypatch):
    monkeypatch.setenv("CXX", "ccache my-c++")
    assert cuda_on_cpu.compiler() == ["ccache", "my-c++"]
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(cuda_on_cpu.shutil, "which", {"g++": "/bin/g++"}.get)
    assert cuda_on_cpu.compiler() == ["/bin/g++"]
    monkeypatch.setattr(cuda_on_cpu.shutil, "which", {}.get)
    assert cuda_on_cpu.compiler()[:4] == [sys.executable, "-m", "ziglang", "c++"]


@pytest.mark.skipif(find_spec("ziglang") is None, reason="the wheel ziglang is not installed")
def test_the_wheels_compiler_is_as_good(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(cuda_on_cpu.shutil, "which", {}.get)
    kernel = depth_kernel(np.dtype("f4"))
    assert "ziglang" in cuda_on_cpu.compiler()
    backend = CudaBackend(CpuDevice(), select_host_backend)
    blocks = frame(kernel, (300, 270), 0)
    assert_same(blocks(NUMPY, 0xAB), blocks(backend, 0xCD))
