"""The CUDA backend, on a device that is the CPU: batches, memory, streams and what happens when the device fails.

What the kernels make is in test_cuda_kernels.py.

Longer than other files: its tests share the devices on the CPU and what they measure.
"""

import gc
import os
import queue
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kernels.cuda.cuda_on_cpu.deferred import DeferredDevice
from tests.kernels.cuda.cuda_on_cpu.device import CpuDevice, on_device
from tests.kernels.test_backends_agree import arrays, assert_same, dirty

from lumatile.buffers import BufferPool
from lumatile_kernels import pyramid
from lumatile_kernels.backend import BackendUnavailableError
from lumatile_kernels.cuda import batch as batches
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.cuda.device_tables import PALETTES
from lumatile_kernels.cuda.passes import MAX_FRAMES, frame_layout
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.selection import select_host_backend
from lumatile_kernels.tables import class_palette

NUMPY = NumpyBackend()
PALETTE = class_palette({1: (9, 8, 7, 6)}, 256)


@pytest.fixture
def device():
    device = CpuDevice()
    yield device
    assert device.intact()


@pytest.fixture
def deferred():
    device = DeferredDevice()
    yield device
    gc.collect()
    device.check()


def image(seed=0, shape=(60, 70, 3), dtype="u1"):
    return arrays(shape, dtype, seed)


class Kind:
    """Something to be asked of any backend."""

    def __init__(self, name, shape, seed=0, dtype="u1", **options):
        self.name = name
        self.options = options
        self.array = arrays(shape, dtype, seed)
        if name == "segmentation":
            self.array %= 5

    def blocks(self, backend, array=None, **more):
        return getattr(backend, self.name)(self.array if array is None else array, **self.options, **more)


def kinds(seed=0, shape=(130, 300)):
    return [
        Kind("image", (*shape, 3), seed),
        Kind("image", (*shape, 4), seed, "f4", tile_format="srgb8"),
        Kind("depth", shape, seed, "u2", meter=1000),
        Kind("segmentation", shape, seed, palette=PALETTE),
    ]


# batches


def test_frames_that_are_asked_for_ahead_share_a_launch(device):
    backend = CudaBackend(device, select_host_backend)
    frames = [image(seed) for seed in range(7)]
    started = [backend.image(frame) for frame in frames]
    assert device.launches == 0
    for frame, blocks in zip(frames, started, strict=True):
        assert_same(NUMPY.image(frame), blocks)
    assert device.launches == 1


@pytest.mark.parametrize(
    "other",
    [
        Kind("image", (60, 71, 3)),
        Kind("image", (60, 70, 4)),
        Kind("image", (60, 70, 3), dtype="u2"),
        Kind("image", (60, 70, 3), tile_format="srgb8"),
        Kind("depth", (60, 70), meter=1),
    ],
    ids=["shape", "channels", "dtype", "format", "kind"],
)
def test_frames_that_differ_do_not_share_a_launch(device, other):
    backend = CudaBackend(device, select_host_backend)
    one = Kind("image", (60, 70, 3))
    blocks = one.blocks(backend), other.blocks(backend)
    assert_same(one.blocks(NUMPY), blocks[0])
    assert_same(other.blocks(NUMPY), blocks[1])
    assert device.launches == 2


def test_depth_of_two_meters_and_ids_of_two_palettes_are_not_mixed_up(device):
    backend = CudaBackend(device, select_host_backend)
    depth, ids = arrays((40, 50), "u2", 0), arrays((40, 50), "u1", 0)
    palettes = [PALETTE, class_palette({1: (1, 1, 1)}, 256)]
    started = [backend.depth(depth, meter=meter) for meter in (1, 1000)]
    started += [backend.segmentation(ids, palette=palette) for palette in palettes]
    expected = [NUMPY.depth(depth, meter=meter) for meter in (1, 1000)]
    expected += [NUMPY.segmentation(ids, palette=palette) for palette in palettes]
    for one, other in zip(expected, started, strict=True):
        assert_same(one, other)


def test_a_launch_has_no_more_frames_than_its_arguments(device):
    backend = CudaBackend(device, select_host_backend)
    frames = [image(seed, (9, 8, 1)) for seed in range(MAX_FRAMES + 3)]
    started = [backend.image(frame) for frame in frames]
    assert device.launches == 1  # full
    for frame, blocks in zip(frames, started, strict=True):
        assert_same(NUMPY.image(frame), blocks)
    assert device.launches == 2


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_blocks_may_be_taken_in_any_order_late_or_never(data):
    """On a device that puts everything off; abandoned frames are freed in between."""
    device = DeferredDevice(order="mixed")
    backend = CudaBackend(device, select_host_backend)
    asked = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=8))
    expected = [list(kinds(seed)[kind].blocks(NUMPY)) for kind, seed in asked]
    pool = BufferPool()
    started = {i: kinds(seed)[kind].blocks(backend, allocate=pool.take) for i, (kind, seed) in enumerate(asked)}
    taken = {i: [] for i in started}
    while started:
        number = data.draw(st.sampled_from(sorted(started)))
        if data.draw(st.integers(0, 3)) == 0:
            del started[number]  # abandoned
            continue
        block = next(started[number], None)
        if block is None:
            assert_same(expected[number], taken[number])
            del started[number]
        else:
            taken[number].append(block)
    for number, blocks in taken.items():
        assert_same(expected[number][: len(blocks)], blocks)
    assert backend.fallbacks == 0
    del backend
    gc.collect()
    device.check()


@pytest.mark.parametrize("ahead", [1, 5, 100])
def test_streams_are_ordered_and_memory_outlives_what_uses_it(deferred, monkeypatch, ahead):
    """Frames of several pieces, slots and buffers that are reused, row tables and palettes that come and go."""
    monkeypatch.setattr(batches, "PIECE_BYTES", 1 << 16)
    monkeypatch.setattr(batches, "DOWNLOAD_AHEAD", 1 << 18)
    backend = CudaBackend(deferred, select_host_backend)
    pool = BufferPool()
    asked = [kind for seed in range(6) for kind in kinds(seed, shape=(130 + seed % 2, 300))]
    asked += [
        Kind("segmentation", (40, 41), seed, palette=class_palette({1: (seed, 1, 1)}, 256))
        for seed in range(PALETTES + 4)
    ]
    asked += [Kind("depth", (3, 4 + seed), seed, meter=1) for seed in range(70)]
    asked += [Kind("depth", (2, 9000), seed, meter=1) for seed in range(3)]
    started = []
    for kind in [*asked, *[None] * ahead]:
        if kind is not None:
            started.append((kind, kind.blocks(backend, allocate=pool.take)))
        if len(started) > ahead or kind is None:
            first, blocks = started.pop(0)
            assert_same(first.blocks(NUMPY), blocks)
    assert backend.fallbacks == 0


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_abandoned_batch_waits_before_its_memory_is_used_again(deferred, taken):
    backend = CudaBackend(deferred, select_host_backend)
    frame = Kind("image", (1100, 1500, 3))
    blocks = frame.blocks(backend)
    for _ in range(taken):
        next(blocks)
    del blocks
    allocations = deferred.allocations
    other = Kind("image", (1100, 1500, 3), seed=1)
    assert_same(other.blocks(NUMPY), other.blocks(backend))
    assert taken == 0 or deferred.allocations == allocations  # it is the same memory


def test_what_was_uploaded_is_let_go_when_it_has_arrived(device):
    backend = CudaBackend(device, select_host_backend)
    frame = image()
    array = weakref.ref(frame)
    blocks = list(backend.image(frame))
    del frame
    assert array() is None
    assert blocks


# memory


def test_the_steady_state_allocates_nothing_on_the_device(device):
    backend = CudaBackend(device, select_host_backend)
    positions = np.random.default_rng(0).normal(size=(500, 3))
    opaque = on_device(device, np.full((10, 10, 4), 255, np.uint8))

    def everything():
        started = [kind.blocks(backend) for kind in kinds() for _ in range(3)]
        for blocks in started:
            list(blocks)
        backend.points(positions)
        backend.is_opaque(opaque)

    everything()
    allocations = device.allocations
    for _ in range(3):
        everything()
    assert device.allocations == allocations


def test_idle_memory_is_bounded(device):
    slots = Slots(device, idle_bytes=10_000)
    for slot in [slots.take(4000) for _ in range(5)]:
        slots.give_back(slot)
    before = device.allocations
    slots.take(100)  # none fits
    assert [slot.nbytes for slot in slots._idle] == [4000, 4000]
    assert device.allocations == before + 1
    assert slots.clear() == 8000


def test_a_frame_is_complete_before_the_next_one_comes_down(device, monkeypatch):
    monkeypatch.setattr(batches, "PIECE_BYTES", 1)
    monkeypatch.setattr(batches, "DOWNLOAD_AHEAD", 1)
    backend = CudaBackend(device, select_host_backend)
    started = [backend.image(image(seed)) for seed in range(6)]
    list(started[0])
    assert device.downloads == 2  # the first, and one ahead


def test_small_frames_come_down_together(device):
    backend = CudaBackend(device, select_host_backend)
    started = [backend.image(image(seed)) for seed in range(20)]
    for blocks in started:
        list(blocks)
    assert device.downloads == 1


@pytest.mark.parametrize("kind", kinds(shape=(700, 1500)), ids=lambda kind: kind.name)
def test_payloads_are_in_memory_that_was_asked_for(device, kind):
    lent = []

    def allocate(nbytes):
        lent.append(np.full(nbytes, 0xCD, np.uint8))
        return lent[-1]

    blocks = list(kind.blocks(CudaBackend(device, select_host_backend), allocate=allocate))
    assert all(any(np.shares_memory(block.payload, array) for array in lent) for block in blocks)
    payload = sum(block.payload.nbytes for block in blocks)
    assert sum(array.nbytes for array in lent) <= payload + batches.PINNED_BYTES + 4096 * len(blocks)
    assert_same(kind.blocks(NUMPY), blocks)


def test_planes_of_several_blocks_come_in_the_order_of_the_host_backends(device):
    kind = Kind("segmentation", (1100, 2300), palette=PALETTE)
    blocks = list(kind.blocks(CudaBackend(device, select_host_backend)))
    assert [block.plane for block in blocks].count("colors") > 1
    assert_same(kind.blocks(NUMPY), blocks)


# a device that has no room


def test_a_batch_that_does_not_fit_is_split(device, caplog):
    backend = CudaBackend(device, select_host_backend)
    frames = [image(seed, (200, 200, 3)) for seed in range(8)]
    list(backend.image(frames[0]))
    device.room = 1 << 20  # two frames
    started = [backend.image(frame) for frame in frames]
    for frame, blocks in zip(frames, started, strict=True):
        assert_same(NUMPY.image(frame), blocks)
    assert backend.fallbacks == 0
    assert device.launches > 2
    assert not caplog.records


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_what_does_not_fit_is_computed_on_the_host_and_that_is_said_once(device, caplog, kind):
    backend = CudaBackend(device, select_host_backend)
    device.room = 300_000  # tables
    for _ in range(2):
        started = [kind.blocks(backend, allocate=dirty(0xCD)) for _ in range(3)]
        for blocks in started:
            assert_same(kind.blocks(NUMPY), blocks)
    assert backend.fallbacks == 6
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has no room" in caplog.text
    device.room = None
    assert_same(kind.blocks(NUMPY), kind.blocks(backend))
    assert backend.fallbacks == 6


def test_points_that_do_not_fit_are_ordered_on_the_host(device, caplog):
    backend = CudaBackend(device, select_host_backend)
    positions = np.random.default_rng(0).normal(size=(50_000, 3))
    device.room = 1 << 20
    for _ in range(2):
        assert_same_order(NUMPY.points(positions), backend.points(positions))
    assert backend.fallbacks == 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_a_frame_larger_than_what_frames_may_take_is_computed_on_the_host(device, kind):
    backend = CudaBackend(device, select_host_backend, device_bytes=300_000)
    assert_same(kind.blocks(NUMPY), kind.blocks(backend))
    assert (device.launches, backend.fallbacks) == (0, 1)
    positions = np.random.default_rng(0).normal(size=(50_000, 3))
    assert_same_order(NUMPY.points(positions), backend.points(positions))
    assert (device.launches, backend.fallbacks) == (0, 2)


def test_memory_that_is_idle_makes_room(device):
    backend = CudaBackend(device, select_host_backend)
    list(backend.image(image(0, (40, 40, 3))))
    idle = weakref.ref(backend._slots.take(0)) if backend._slots._idle else None
    device.full_after = 0
    frame = image(1, (300, 300, 3))
    assert_same(NUMPY.image(frame), backend.image(frame))
    assert backend.fallbacks == 0
    assert idle is None or idle() is None


# a device that fails


def ask_for_all(backend, **more):
    """Everything a backend can do, two frames at a time."""
    asked = [kind for seed in range(2) for kind in kinds(seed, (258, 20))]
    asked.append(Kind("image", (1, 8200, 1)))
    asked.sort(key=lambda kind: (kind.name, kind.array.shape))
    started = [kind.blocks(backend, **more) for kind in asked]
    return [list(blocks) for blocks in started], backend.points(np.arange(60.0).reshape(20, 3))


@pytest.fixture
def all_there_is(monkeypatch):
    """What it makes on numpy, and how many verbs it takes; each row of tiles is a block, and comes down alone."""
    monkeypatch.setattr(pyramid, "BLOCK_BYTES", 1)
    monkeypatch.setattr(batches, "PIECE_BYTES", 1)
    monkeypatch.setattr(batches, "DOWNLOAD_AHEAD", 150_000)
    frame_layout.cache_clear()
    yield from measured()
    frame_layout.cache_clear()


def measured():
    device = CpuDevice()
    backend = CudaBackend(device, select_host_backend)
    device.verbs = 0
    ask_for_all(backend)
    yield ask_for_all(NUMPY), device.verbs


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("device_type", [CpuDevice, DeferredDevice])
def test_a_device_that_fails_at_any_moment_loses_nothing(all_there_is, caplog, device_type, part):
    (expected, order), verbs = all_there_is
    assert verbs > 60
    for k in range(part, verbs, 4):
        caplog.clear()
        device = device_type()
        backend = CudaBackend(device, select_host_backend)
        device.fails_after = k
        found, found_order = ask_for_all(backend, allocate=dirty(0xCD))
        for one, other in zip(expected, found, strict=True):
            assert_same(one, other)
        assert_same_order(order, found_order)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert "switched it off" in caplog.text
        done = device.verbs
        later = Kind("image", (20, 30, 3))
        assert_same(later.blocks(NUMPY), later.blocks(backend))
        assert device.verbs == done, "it is not asked any more"
        assert backend.fallbacks > 0


@pytest.mark.parametrize("part", range(4))
def test_a_device_that_has_no_room_for_a_moment_loses_nothing(all_there_is, part):
    """Whatever says so, a launch or a download; and what was under way then is waited for."""
    (expected, order), verbs = all_there_is
    for k in range(part, verbs, 4):
        device = DeferredDevice()
        backend = CudaBackend(device, select_host_backend)
        pool = BufferPool()
        device.full_after = k
        found, found_order = ask_for_all(backend, allocate=pool.take)
        for one, other in zip(expected, found, strict=True):
            assert_same(one, other)
        assert_same_order(order, found_order)
        del backend
        device.check()


def test_memory_that_cannot_be_had_on_the_host_costs_no_other_frame(device, monkeypatch):
    monkeypatch.setattr(batches, "PIECE_BYTES", 1)
    monkeypatch.setattr(batches, "DOWNLOAD_AHEAD", 1)
    backend = CudaBackend(device, select_host_backend)
    frames = [image(seed) for seed in range(4)]

    def none_left(nbytes):
        raise MemoryError

    allocates = [dirty(1), dirty(2), none_left, dirty(4)]
    started = [backend.image(f, allocate=a) for f, a in zip(frames, allocates, strict=True)]
    with pytest.raises(MemoryError):
        list(started[2])
    with pytest.raises(MemoryError):
        list(started[3])  # it lies behind
    assert_same(NUMPY.image(frames[0]), started[0])
    assert_same(NUMPY.image(frames[1]), started[1])


# arrays on the device


@pytest.mark.parametrize("offset", [0, 1, 3])
@pytest.mark.parametrize(
    "kind",
    [
        *kinds(),
        Kind("image", (66, 130, 1)),
        Kind("image", (70, 65, 3), dtype="u2"),
        Kind("image", (70, 64, 4), dtype="f2", tile_format="rgba32float"),
        Kind("depth", (80, 96), dtype="f8", meter=2),
    ],
    ids=lambda kind: f"{kind.name}-{kind.array.dtype}",
)
def test_an_array_on_the_device_is_read_where_it_is(deferred, kind, offset):
    """It may begin wherever its elements may."""
    backend = CudaBackend(deferred, select_host_backend)
    there = on_device(deferred, kind.array, offset * kind.array.itemsize)
    assert backend.admit(there) is there
    started = kind.blocks(backend, there), kind.blocks(backend)
    del there
    for blocks in started:
        assert_same(kind.blocks(NUMPY), blocks)
    assert deferred.launches == 1
    assert backend.fallbacks == 0


def test_an_array_on_another_device_is_brought_to_the_host(device):
    backend = CudaBackend(device, select_host_backend)
    frame = image()
    admitted = backend.admit(on_device(CpuDevice(number=1), frame))
    np.testing.assert_array_equal(admitted, frame)
    assert isinstance(admitted, np.ndarray)
    assert backend.admit(frame) is frame


@pytest.mark.parametrize("alpha", [255, 254])
def test_whether_an_array_on_the_device_is_opaque(deferred, alpha):
    frame = np.full((33, 47, 4), 255, np.uint8)
    frame[20, 30, 3] = alpha
    backend = CudaBackend(deferred, select_host_backend)
    assert backend.is_opaque(on_device(deferred, frame)) == (alpha == 255)
    assert backend.is_opaque(frame) == (alpha == 255)


@pytest.mark.parametrize("k", range(6))
def test_opacity_without_room_is_found_on_the_host(deferred, k):
    frame = np.full((33, 47, 4), 255, np.uint8)
    backend = CudaBackend(deferred, select_host_backend)
    there = on_device(deferred, frame)
    deferred.full_after = k
    assert backend.is_opaque(there)


# points


def assert_same_order(expected, actual):
    assert expected.counts == actual.counts
    for name in ("origin", "positions", "order"):
        one, other = getattr(expected, name), getattr(actual, name)
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()), name


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("count", [0, 1, 7, 65_536, 65_537, 300_000])
def test_points(deferred, count, axes, dtype):
    backend = CudaBackend(deferred, select_host_backend)
    positions = np.random.default_rng(count).normal(size=(count, axes)).astype(dtype)
    positions[positions > 2] = np.inf
    positions[positions < -2] = np.nan
    assert_same_order(NUMPY.points(positions), backend.points(positions))
    assert backend.fallbacks == 0


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, 2**-100, 2**-101, 3e38, -3e38, 1e300, np.nan, np.inf, -np.inf]),
        max_size=30,
    ),
    axes=st.sampled_from([2, 3]),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_points_of_extreme_values(values, axes, dtype):
    device = CpuDevice()
    with np.errstate(over="ignore"):
        positions = np.array(values[: len(values) // axes * axes]).reshape(-1, axes).astype(dtype)
    assert_same_order(NUMPY.points(positions), CudaBackend(device, select_host_backend).points(positions))
    assert device.intact()


# edges


def test_frames_without_texels_have_no_blocks(device):
    backend = CudaBackend(device, select_host_backend)
    assert not list(backend.image(np.empty((0, 10, 3), np.uint8)))
    assert not list(backend.depth(np.empty((10, 0), np.uint16), meter=1))
    assert not list(backend.segmentation(np.empty((0, 0), np.uint8), palette=PALETTE))
    assert device.launches == 0


@pytest.mark.parametrize("shape", [(1, 70_000), (70_000, 1)])
def test_very_long_frames(deferred, shape):
    backend = CudaBackend(deferred, select_host_backend)
    frame = Kind("image", (*shape, 3), tile_format="rgba32float")
    assert_same(frame.blocks(NUMPY), frame.blocks(backend))
    assert backend.fallbacks == 0


def test_batches_may_become_garbage_in_any_thread(device):
    backend = CudaBackend(device, select_host_backend)
    abandoned = queue.SimpleQueue()

    def collect():
        while abandoned.get() is not None:
            pass

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for seed in range(25):
            frame, other = image(seed, (300, 300, 3)), image(seed, (300, 301, 3))
            blocks, others = backend.image(frame), backend.image(other)
            abandoned.put(blocks)
            del blocks
            assert_same(NUMPY.image(other), others)
    finally:
        abandoned.put(None)
        thread.join()
    assert backend.fallbacks == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_its_parents_batches_alone(device):
    backend = CudaBackend(device, select_host_backend)
    frame = Kind("image", (1100, 1500, 3))
    blocks = frame.blocks(backend)
    next(blocks)
    child = os.fork()
    if child == 0:
        before = device.verbs
        del blocks
        gc.collect()
        os._exit(device.verbs - before)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(blocks)) + 1 == len(list(frame.blocks(NUMPY)))


# a GPU


@pytest.fixture(scope="module")
def gpu():
    """The backend on a real device."""
    try:
        return CudaBackend(CudaDevice(), select_host_backend)
    except BackendUnavailableError as e:
        pytest.skip(str(e))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 1), (255, 257), (2, 20_000), (1080, 1920)])
def test_a_gpu_makes_what_numpy_makes(gpu, shape):
    more = [
        Kind("image", (*shape, channels), 0, dtype, tile_format=tile_format)
        for channels in (1, 3, 4)
        for dtype in ("u1", "u2", "f2", "f4", "f8")
        for tile_format in ("linear", "srgb8", "rgba32float")
    ]
    for kind in [*kinds(shape=shape), *more]:
        started = [kind.blocks(gpu, allocate=dirty(0xCD)) for _ in range(3)]
        for blocks in started:
            assert_same(kind.blocks(NUMPY), blocks)
    assert gpu.fallbacks == 0


@pytest.mark.gpu
@pytest.mark.parametrize("count", [1, 65_537, 1_000_000])
def test_a_gpu_orders_points_as_numpy_does(gpu, count):
    for dtype in ("f4", "f8"):
        for axes in (2, 3):
            positions = np.random.default_rng(count).normal(size=(count, axes)).astype(dtype)
            positions[positions > 2] = np.nan
            assert_same_order(NUMPY.points(positions), gpu.points(positions))
    assert gpu.fallbacks == 0


@pytest.mark.gpu
def test_a_gpu_reads_arrays_where_they_are(gpu):
    for kind in kinds():
        there = on_device(gpu.device, kind.array)
        assert_same(kind.blocks(NUMPY), kind.blocks(gpu, gpu.admit(there)))
        np.testing.assert_array_equal(there.host(), kind.array)
    assert gpu.fallbacks == 0
