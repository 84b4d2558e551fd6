"""End to end: frames on the host or the device to payloads in pinned host memory, compared with the plain download."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.frames import HEIGHT_4K, WIDTH_4K, random_frame
from benchmarks.gpu_check.pinned_ring import PinnedRing
from benchmarks.gpu_check.timing import ratio
from benchmarks.harness.table import Bar, Cell, Table
from lumatile_kernels.backend import Allocate, TileFormat
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.device import Memory
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.layout import pyramid_layout
from lumatile_kernels.pyramid import image_plan
from lumatile_kernels.selection import select_host_backend

ROUNDS = 9
FRAMES = 32
DIFFERENT = 6
"""The number of frames that differ; they are used repeatedly."""

RING_BYTES = 1 << 30
COPY_BYTES = 64 << 20
"""The bytes of each plain copy; copies follow each other without a pause."""

BAR = 0.85
"""The least share of the plain copy's bandwidth."""

DOWN, UP_TOO, RESIDENT = "copy down", "frames on the host", "frames on the device"


def measure(findings: Findings, *, quick: bool) -> None:
    """Add the table of payloads on the host."""
    device = CudaDevice()
    backend = CudaBackend(device, select_host_backend)
    ring = PinnedRing(backend.pin, RING_BYTES)
    inputs = PinnedRing(backend.pin, DIFFERENT * (25 << 20))
    frames = [inputs.keep(random_frame((HEIGHT_4K, WIDTH_4K, 3), "u1", seed)) for seed in range(DIFFERENT)]
    count, rounds = (8, 3) if quick else (FRAMES, ROUNDS)
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    seconds: dict[str, list[float]] = {}
    formats: tuple[TileFormat, ...] = ("linear", "srgb8")
    with findings.attempt("end to end"):
        resident = [_on_device(device, frame) for frame in frames]
        source = device.allocate(COPY_BYTES)
        _same_as_numpy(backend, frames, ring)
        for tile_format in formats:
            texel_bytes = image_plan(tile_format, 3).planes[0].texel_bytes
            nbytes = count * pyramid_layout(HEIGHT_4K, WIDTH_4K, texel_bytes).nbytes
            turns = {
                DOWN: partial(_copy_down, device, source, ring, nbytes),
                UP_TOO: partial(_through, backend, frames, count, tile_format, ring.allocate),
                RESIDENT: partial(_through, backend, resident, count, tile_format, ring.allocate),
            }
            taken: dict[str, list[float]] = {name: [] for name in turns}
            for number in range(-2, rounds):
                for name in list(turns)[:: 1 if number % 2 else -1]:
                    start = time.perf_counter()
                    moved = turns[name]()
                    elapsed = time.perf_counter() - start
                    if moved != nbytes:
                        raise RuntimeError(f"{name}: {moved} bytes arrived, not {nbytes}")
                    if number >= 0:
                        taken[name].append(elapsed)
            for name, values in taken.items():
                share = None if name == DOWN else ratio(taken, DOWN, name)
                speed = nbytes / 1e9 / median(values)
                rows.append([f"image u8 RGB 4K, {tile_format}", name, count / median(values), speed, share])
                if share is not None and tile_format == "linear":
                    promise = f"4K {tile_format}, {name}: share of the bandwidth down"
                    bars.append(Bar(promise=promise, value=share, limit=BAR, at_least=True))
            seconds |= {f"{tile_format}, {name}": values for name, values in taken.items()}
        if backend.fallbacks:
            findings.failures.append(f"end to end: the host computed {backend.fallbacks} frames")
    findings.add(
        Table(
            title="Payloads on the host, end to end",
            columns=("work", "from", "frames/s", "payload GB/s", "share of the copy down"),
            rows=rows,
            bars=bars,
            seconds=seconds,
            notes=[
                f"{device.name}. {count} frames a round, {rounds} rounds, random data; wall clock, median.",
                "Frames are requested ahead, as a pipeline does.",
                "Frames on the host and payload buffers lie in pinned memory that is reused, locked by `Backend.pin`.",
                f"copy down: the same bytes from device memory to the same buffers, {COPY_BYTES >> 20} MiB at a time.",
            ],
        )
    )
    ring.close()
    inputs.close()


def _on_device(device: CudaDevice, frame: NDArray[Any]) -> DeviceArray:
    memory, stream = device.allocate(frame.nbytes), device.stream()
    device.upload(memory.pointer, frame, stream)
    ready = device.record(stream)
    device.synchronize(ready)
    return DeviceArray(
        device=device, pointer=memory.pointer, shape=frame.shape, dtype=frame.dtype, ready=ready, owner=memory
    )


def _same_as_numpy(backend: CudaBackend, frames: Sequence[NDArray[Any]], ring: PinnedRing) -> None:
    """Raise RuntimeError if the payload that arrives differs from the specification."""
    expected = [block.payload for block in NumpyBackend().image(frames[-1])]
    asked = [backend.image(frame, allocate=ring.allocate) for frame in frames[-3:]]
    found = [[block.payload for block in blocks] for blocks in asked][-1]
    if not all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True)):
        raise RuntimeError("the payload that arrives is not the numpy backend's")


def _through(
    backend: CudaBackend, frames: Sequence[Any], count: int, tile_format: TileFormat, allocate: Allocate
) -> int:
    """Return the bytes of payload that have arrived."""
    ahead = max(1, backend.ahead_bytes // frames[0].nbytes)
    asked: deque[Any] = deque()
    nbytes = 0
    for number in range(count):
        asked.append(backend.image(frames[number % len(frames)], tile_format=tile_format, allocate=allocate))
        if len(asked) > ahead:
            nbytes += sum(block.payload.nbytes for block in asked.popleft())
    for blocks in asked:
        nbytes += sum(block.payload.nbytes for block in blocks)
    return nbytes


def _copy_down(device: CudaDevice, source: Memory, ring: PinnedRing, nbytes: int) -> int:
    """Return the number of copied bytes."""
    stream = device.stream()
    for start in range(0, nbytes, COPY_BYTES):
        device.download(ring.allocate(min(COPY_BYTES, nbytes - start)), source.pointer, stream)
    device.synchronize(device.record(stream))
    return nbytes
