"""The fused kernels, compared with a copy on the device: each input byte read once, each output byte written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks.gpu_check.findings import Findings
from benchmarks.gpu_check.frames import METER, SIZES, random_frame, random_palette
from benchmarks.gpu_check.fused import Fused
from benchmarks.gpu_check.timing import EventTimer, ratio
from benchmarks.harness.table import Bar, Cell, Table
from lumatile_kernels.backend import TileFormat
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.cuda.work import Planner, Work

ROUNDS = 30
BATCH_BYTES = 512 << 20
"""The least bytes, in and out, of all frames that are measured together."""

SETS = 3
"""The number of sets of inputs, used in turns, so that none is still in the L2 cache."""

DIFFERENT = 4
"""The frames of a set that differ; the others repeat them at other addresses."""

BAR = 0.80
"""The least share of the copy's bandwidth."""

COLUMNS = (
    "kernel",
    "MB in",
    "MB out",
    "frames",
    "frames a launch",
    "us",
    "GB/s",
    "copy GB/s",
    "share of the copy",
    "the backend's frames a launch",
    "GB/s with these",
)
COPY, FUSED, OWN = "copy", "fused", "own batches"


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelCall:
    """A call of the backend that is measured."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    call: Callable[[Planner, Any], Work]


def kernels() -> Iterator[KernelCall]:
    """Yield the calls that have a bar."""
    palette = random_palette(256, 0)
    formats: tuple[TileFormat, ...] = ("linear", "srgb8", "rgba32float")

    def image(tile_format: TileFormat, planner: Planner, frame: Any) -> Work:
        return planner.image(frame, tile_format=tile_format)

    def depth(planner: Planner, frame: Any) -> Work:
        return planner.depth(frame, meter=METER)

    def segmentation(planner: Planner, frame: Any) -> Work:
        return planner.segmentation(frame, palette=palette)

    for size, (h, w) in SIZES.items():
        for tile_format in formats:
            name = f"image u8 RGB {size}, {tile_format}"
            yield KernelCall(name=name, shape=(h, w, 3), dtype="u1", call=partial(image, tile_format))
        name = f"image f32 RGB {size}, linear"
        yield KernelCall(name=name, shape=(h, w, 3), dtype="f4", call=partial(image, "linear"))
        yield KernelCall(name=f"depth u16 {size}", shape=(h, w), dtype="u2", call=depth)
        yield KernelCall(name=f"depth f32 {size}", shape=(h, w), dtype="f4", call=depth)
        yield KernelCall(name=f"segmentation u8 {size}", shape=(h, w), dtype="u1", call=segmentation)


def measure(findings: Findings, *, quick: bool) -> None:
    """Add the table of kernels."""
    device, rounds = CudaDevice(), 5 if quick else ROUNDS
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    seconds: dict[str, list[float]] = {}
    notes = [
        f"{device.name}. Random data; at least {BATCH_BYTES >> 20} MiB in and out; {SETS} sets of inputs in turns.",
        f"GB/s: each input and output byte once, over the median of {rounds} rounds, by CUDA events.",
        "copy: from device memory to device memory, of as many bytes read and written, in turns with the kernel.",
        "The last two columns: the same frames in the batches that the backend itself would make of them.",
    ]
    for kernel in kernels():
        with findings.attempt(kernel.name):
            taken, row = _measured(device, kernel, rounds=rounds, notes=notes)
            rows.append(row)
            seconds |= {f"{kernel.name}, {name}": values for name, values in taken.items()}
            bars.append(
                Bar(
                    promise=f"{kernel.name}, share of the copy's bandwidth",
                    value=ratio(taken, COPY, FUSED),
                    limit=BAR,
                    at_least=True,
                )
            )
        findings.add(Table(title="Fused kernels", columns=COLUMNS, rows=rows, notes=notes, bars=bars, seconds=seconds))


def _measured(
    device: CudaDevice, kernel: KernelCall, *, rounds: int, notes: list[str]
) -> tuple[dict[str, list[float]], list[Cell]]:
    different = [random_frame(kernel.shape, kernel.dtype, seed) for seed in range(DIFFERENT)]
    frames = [different[i % DIFFERENT] for i in range(_frames(device, kernel, different[0]))]
    fused = Fused(device, frames, kernel.call, SETS)
    moved = fused.in_bytes + fused.out_bytes
    copied = [device.allocate(moved // 2) for _ in range(2)]

    def copy(number: int) -> None:
        to, source = copied[number % 2], copied[1 - number % 2]
        device.copy(to.pointer, source.pointer, moved // 2, fused.stream)

    timer = EventTimer(fused.stream)
    taken = timer.take_turns(
        {
            COPY: copy,
            FUSED: fused.enqueue,
            OWN: lambda number: fused.enqueue(number, fused.frames_of_a_batch),
        },
        rounds,
    )
    if timer.late:
        notes.append(f"{kernel.name}: in {timer.late} measurements the device may have waited for the host.")
    best = median(taken[FUSED])
    row: list[Cell] = [
        kernel.name,
        fused.in_bytes / 1e6,
        fused.out_bytes / 1e6,
        fused.frames,
        fused.together,
        best * 1e6,
        moved / 1e9 / best,
        moved / 1e9 / median(taken[COPY]),
        ratio(taken, COPY, FUSED),
        fused.frames_of_a_batch,
        moved / 1e9 / median(taken[OWN]),
    ]
    return taken, row


def _frames(device: CudaDevice, kernel: KernelCall, frame: Any) -> int:
    """Return the number of frames that make a batch."""
    one = Fused(device, [frame], kernel.call)
    return -(-BATCH_BYTES // (one.in_bytes + one.out_bytes))
