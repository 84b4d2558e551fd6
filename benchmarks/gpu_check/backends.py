"""The backends of this machine compared: from an array on the host to its payload on the host."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.frames import HEIGHT_4K, METER, WIDTH_4K, cloud, random_frame, random_palette
from benchmarks.gpu_check.pinned_ring import PinnedRing
from benchmarks.gpu_check.timing import ratio
from benchmarks.harness.table import Cell, Table
from lumatile_kernels.backend import Allocate, Backend, BackendUnavailableError, PointOrder
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.selection import select_backend, select_host_backend

ROUNDS = 7
POINTS = 1_000_000
RING_BYTES = 512 << 20

Call = Callable[[Backend, Allocate], Any]


def measure(findings: Findings, *, quick: bool) -> None:
    """Add the table of backends."""
    device = CudaDevice()
    cuda = CudaBackend(device, select_host_backend)
    ring = PinnedRing(cuda.pin, RING_BYTES)
    backends: list[Backend] = [select_backend("numpy")]
    try:
        backends.append(select_backend("numba"))
    except BackendUnavailableError as e:
        findings.note(f"no figures for numba: {e}")
    backends.append(cuda)
    inputs = PinnedRing(cuda.pin, 128 << 20)
    rows: list[list[Cell]] = []
    seconds: dict[str, list[float]] = {}
    for name, call in _kinds(inputs).items():
        with findings.attempt(f"backends, {name}"):
            nbytes = _nbytes(call(backends[0], ring.allocate))
            taken: dict[str, list[float]] = {backend.name: [] for backend in backends}
            for number in range(-1, 2 if quick else ROUNDS):
                for backend in backends[:: 1 if number % 2 else -1]:
                    elapsed = _timed(partial(call, backend, ring.allocate))
                    if number >= 0:
                        taken[backend.name].append(elapsed)
            for backend in backends:
                each = median(taken[backend.name])
                others = [ratio(taken, other, backend.name) if other in taken else None for other in ("numpy", "numba")]
                rows.append([name, backend.name, each * 1e3, nbytes / 1e6 / each, *others])
            seconds |= {f"{name}, {backend}": values for backend, values in taken.items()}
    if cuda.fallbacks:
        findings.failures.append(f"backends: the host computed {cuda.fallbacks} of CUDA's frames")
    findings.add(
        Table(
            title="Backends, one frame at a time",
            columns=("kind", "backend", "ms", "MB out/s", "times faster than numpy", "times faster than numba"),
            rows=rows,
            seconds=seconds,
            notes=[
                f"{device.name}. From an array on the host to all blocks on the host, wall clock, median; random data.",
                "All backends write into the same warm, reused buffers; for the GPU they and the images are pinned.",
            ],
        )
    )
    ring.close()
    inputs.close()


def _kinds(inputs: PinnedRing) -> dict[str, Call]:
    photo = inputs.keep(random_frame((HEIGHT_4K, WIDTH_4K, 3), "u1", 0))
    depth = inputs.keep(random_frame((HEIGHT_4K, WIDTH_4K), "u2", 1))
    ids = inputs.keep(random_frame((HEIGHT_4K, WIDTH_4K), "u1", 2))
    positions, palette = cloud(POINTS, 3, "f4", 3), random_palette(256, 0)

    def linear(backend: Backend, allocate: Allocate) -> Any:
        return list(backend.image(photo, allocate=allocate))

    def srgb8(backend: Backend, allocate: Allocate) -> Any:
        return list(backend.image(photo, tile_format="srgb8", allocate=allocate))

    def metres(backend: Backend, allocate: Allocate) -> Any:
        return list(backend.depth(depth, meter=METER, allocate=allocate))

    def segmentation(backend: Backend, allocate: Allocate) -> Any:
        return list(backend.segmentation(ids, palette=palette, allocate=allocate))

    def points(backend: Backend, _allocate: Allocate) -> Any:
        return backend.points(positions)

    return {
        "image u8 RGB 4K, linear": linear,
        "image u8 RGB 4K, srgb8": srgb8,
        "depth u16 4K": metres,
        "segmentation u8 4K": segmentation,
        "points f32, 1 million": points,
    }


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    result = work()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def _nbytes(answer: Any) -> int:
    if isinstance(answer, PointOrder):
        return answer.positions.nbytes + answer.order.nbytes
    return int(np.sum([block.payload.nbytes for block in answer]))
