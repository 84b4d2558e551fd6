"""Kernels: each kind and backend, compared with a copy of the bytes that it produces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.frames import (
    HEIGHT_4K,
    HEIGHT_HD,
    METER,
    WIDTH_4K,
    WIDTH_HD,
    cloud,
    depths,
    photos,
    segmentations,
)
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, Timings, clock, take_turns
from benchmarks.harness.table import Bar, Cell, Table
from lumatile.buffers import POOL
from lumatile_kernels import Backend, BackendUnavailableError, PointOrder, TileBlock, TileFormat, select_backend
from lumatile_kernels.tables import class_palette

ROUNDS = 10
WARM_TIMES = 4
"""The memory of numpy's temporary arrays, as a multiple of the output."""
POINTS = 1_000_000
COPY = "copy"


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelCase:
    """A call of a backend that is measured."""

    name: str
    call: Callable[[Backend], Sequence[TileBlock] | PointOrder]


def measure(options: Options) -> list[Table]:
    """Return the table of kernels."""
    backends = []
    notes = [
        "One frame, all its levels, into warm, reused buffers; copy: np.copyto of as many bytes, one thread, warm.",
        "Photographs, a stereo depth map, regions of a photograph, a cloud from the depth map.",
    ]
    for name in ("numpy", "numba", "cuda"):
        try:
            backends.append(select_backend(name))
        except BackendUnavailableError as e:
            notes.append(f"skipped: {e}")
    rows: list[list[Cell]] = []
    timings: dict[str, Timings] = {}
    for kernel in _kernels(options):
        nbytes = _output_bytes(kernel.call(backends[0]))
        turns = take_turns(_contenders(kernel, backends, nbytes), options.rounds(ROUNDS))
        timings[kernel.name] = turns
        rows += [
            [
                kernel.name,
                backend.name,
                turns.median(backend.name) * 1e3,
                nbytes / 1e6,
                nbytes / 1e6 / turns.median(backend.name),
                turns.median(COPY) * 1e3,
                turns.ratio(backend.name, COPY),
                turns.ratio("numpy", backend.name),
            ]
            for backend in backends
        ]
    return [
        Table(
            title="Kernels",
            columns=(
                "kernel",
                "backend",
                "ms",
                "MB out",
                "MB out/s",
                "copy ms",
                "times a copy",
                "times faster than numpy",
            ),
            rows=rows,
            notes=notes,
            bars=_bars(timings) if any(backend.name == "numba" for backend in backends) else (),
            seconds={f"{kernel}, {name}": s for kernel, t in timings.items() for name, s in t.seconds.items()},
        )
    ]


def _kernels(options: Options) -> list[KernelCase]:
    """Return the calls that have bars, at 4K; without `quick` also at 1080p, the size of a usual camera."""
    palette = class_palette({}, 256)
    formats: tuple[TileFormat, ...] = ("linear", "srgb8", "rgba32float")
    kernels = []
    sizes = (("4K", HEIGHT_4K, WIDTH_4K), ("1080p", HEIGHT_HD, WIDTH_HD))
    for size, height, width in sizes[: 1 if options.quick else 2]:
        photo, depth, ids = (make(height, width, 1)[0] for make in (photos, depths, segmentations))
        kernels += [
            KernelCase(name=f"image u8 RGB {size}, {tile_format}", call=partial(_image, photo, tile_format))
            for tile_format in formats
        ]
        kernels.append(KernelCase(name=f"depth u16 {size}", call=partial(_depth, depth)))
        kernels.append(KernelCase(name=f"segmentation u8 {size}", call=partial(_segmentation, ids, palette)))
    kernels.append(KernelCase(name="points f32, 1 million", call=partial(_points, cloud(POINTS))))
    return kernels


def _image(photo: NDArray[Any], tile_format: TileFormat, backend: Backend) -> list[TileBlock]:
    return list(backend.image(photo, tile_format=tile_format, allocate=POOL.take))


def _depth(depth: NDArray[Any], backend: Backend) -> list[TileBlock]:
    return list(backend.depth(depth, meter=METER, allocate=POOL.take))


def _segmentation(ids: NDArray[Any], palette: NDArray[np.uint8], backend: Backend) -> list[TileBlock]:
    return list(backend.segmentation(ids, palette=palette, allocate=POOL.take))


def _points(positions: NDArray[Any], backend: Backend) -> PointOrder:
    return backend.points(positions)


def _contenders(kernel: KernelCase, backends: Sequence[Backend], nbytes: int) -> list[Contender]:
    source, target = np.ones(nbytes, np.uint8), np.ones(nbytes, np.uint8)
    contenders = [Contender(name=COPY, run=clock(partial(np.copyto, target, source)))]
    for backend in reversed(backends):
        run = clock(partial(kernel.call, backend))
        contenders.append(Contender(name=backend.name, run=run, warm_bytes=WARM_TIMES * nbytes))
    return contenders


def _output_bytes(output: Any) -> int:
    if isinstance(output, PointOrder):
        return output.positions.nbytes + output.order.nbytes
    return sum(block.payload.nbytes for block in output)


def _bars(timings: dict[str, Timings]) -> list[Bar]:
    linear = timings["image u8 RGB 4K, linear"]
    return [
        Bar(promise="numba 4K linear, times a copy", value=linear.ratio("numba", COPY), limit=5),
        Bar(
            promise="numba 4K linear, times faster than numpy",
            value=linear.ratio("numpy", "numba"),
            limit=8,
            at_least=True,
        ),
        Bar(
            promise="numba 4K segmentation, times a copy",
            value=timings["segmentation u8 4K"].ratio("numba", COPY),
            limit=3,
        ),
        Bar(promise="numba 4K depth, times a copy", value=timings["depth u16 4K"].ratio("numba", COPY), limit=3),
    ]
