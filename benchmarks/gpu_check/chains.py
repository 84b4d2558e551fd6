"""The fused kernels, compared with the same work as a chain of operations: CuPy, and PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check import cupy_chains, torch_chains
from benchmarks.gpu_check.findings import Findings, last_line
from benchmarks.gpu_check.frames import HEIGHT_4K, METER, WIDTH_4K, random_frame, random_palette
from benchmarks.gpu_check.fused import Fused
from benchmarks.gpu_check.gpu import absent, free_bytes
from benchmarks.gpu_check.timing import Enqueue, EventTimer, ratio
from benchmarks.harness.table import Bar, Cell, Table
from lumatile_kernels import tables
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.cuda.work import Planner, Work

ROUNDS = 20
FRAMES = 5
"""The number of 4K frames in a batch."""

BAR = 5.0
"""The least factor by which the kernels are faster than each eager chain."""

FUSED, CUPY, EAGER, COMPILED = "fused", "CuPy", "PyTorch, eager", "PyTorch, compiled"

CHAIN_BYTES = 12 << 30
"""The device memory, in bytes, that the chains need; with less, there are fewer frames."""


NOTES = (
    "The chains make the same levels, but do not cut them into tiles, pad rows or keep value ranges.",
    "Launches from Python are not in the figures, so eager chains are as fast as the device lets them be.",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChainWork:
    """The work that is compared, in both forms."""

    chain: Literal["image", "depth", "segmentation"]
    """The name of the function in cupy_chains and torch_chains."""
    shape: tuple[int, ...]
    dtype: str
    call: Callable[[Planner, Any], Work]
    """Returns the work of the kernels for one frame."""
    argument: NDArray[Any] | float
    """The argument of the chain: a table, or units per metre."""

    @property
    def title(self) -> str:
        """The title in the table."""
        return f"{self.chain} {np.dtype(self.dtype).name} 4K"


def works() -> tuple[ChainWork, ...]:
    """Return the work that is compared."""
    palette = random_palette(256, 0)
    plane = (HEIGHT_4K, WIDTH_4K)
    return (
        ChainWork(
            chain="image",
            shape=(*plane, 3),
            dtype="u1",
            call=lambda planner, frame: planner.image(frame),
            argument=tables.srgb_to_linear(np.dtype(np.uint8)),
        ),
        ChainWork(
            chain="depth",
            shape=plane,
            dtype="u2",
            call=lambda planner, frame: planner.depth(frame, meter=METER),
            argument=METER,
        ),
        ChainWork(
            chain="segmentation",
            shape=plane,
            dtype="u1",
            call=lambda planner, frame: planner.segmentation(frame, palette=palette),
            argument=palette.view(np.uint32)[:, 0].copy(),
        ),
    )


def measure(findings: Findings, *, quick: bool) -> None:
    """Add the table of chains."""
    device, rounds = CudaDevice(), 5 if quick else ROUNDS
    frames = FRAMES if free_bytes() > CHAIN_BYTES else 1
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    seconds: dict[str, list[float]] = {}
    first = f"{device.name}. {frames} frames in a batch, already on the device; random data; CUDA events, median."
    for work in works():
        with findings.attempt(work.title):
            taken = _turns(findings, device, work, frames, rounds)
            for contender in taken:
                faster = ratio(taken, contender, FUSED)
                each = median(taken[contender]) / frames * 1e6
                rows.append([work.title, contender, each, None if contender == FUSED else faster])
                if contender in {CUPY, EAGER}:
                    promise = f"{work.title}, fused, times faster than {contender}"
                    bars.append(Bar(promise=promise, value=faster, limit=BAR, at_least=True))
            seconds |= {f"{work.title}, {contender}": values for contender, values in taken.items()}
        findings.add(
            Table(
                title="Fused kernels compared with chains of operations",
                columns=("work", "by", "us a frame", "times the fused kernel's"),
                rows=rows,
                bars=bars,
                seconds=seconds,
                notes=(first, *NOTES),
            )
        )


def _turns(findings: Findings, device: CudaDevice, work: ChainWork, frames: int, rounds: int) -> dict[str, list[float]]:
    host = np.stack([random_frame(work.shape, work.dtype, seed) for seed in range(frames)])
    fused = Fused(device, list(host), work.call)
    timer = EventTimer(fused.stream)
    contenders: dict[str, Enqueue] = {FUSED: fused.enqueue}
    makers: dict[str, Callable[..., Enqueue]] = {
        CUPY: _cupy_chain,
        EAGER: _torch_chain,
        COMPILED: partial(_torch_chain, compiled=True),
    }
    for name, make in makers.items():
        if why := absent("cupy" if name == CUPY else "torch"):
            findings.note(why)
            continue
        try:
            enqueue = make(fused.stream, work.chain, host, work.argument)
            timer.seconds(enqueue, 0)  # compiles what it needs
        except Exception as e:  # noqa: BLE001 - a chain that cannot run here is left out
            findings.note(f"{work.title}: no figure for {name}: {last_line(e)}")
            continue
        contenders[name] = enqueue
    taken = timer.take_turns(contenders, rounds)
    if timer.late:
        findings.note(f"{work.title}: in {timer.late} measurements launches may have kept the device waiting.")
    return taken


def _cupy_chain(stream: Any, chain: str, host: NDArray[Any], argument: NDArray[Any] | float) -> Enqueue:
    import cupy

    with stream:
        frames = cupy.asarray(host)
        table = cupy.asarray(argument) if isinstance(argument, np.ndarray) else argument
    stream.synchronize()
    work = getattr(cupy_chains, chain)

    def enqueue(_number: int) -> None:
        with stream:
            if chain == "depth":
                work(cupy, frames, table)
            else:
                work(cupy, table, frames)

    return enqueue


def _torch_chain(
    stream: Any, chain: str, host: NDArray[Any], argument: NDArray[Any] | float, *, compiled: bool = False
) -> Enqueue:
    import torch

    if chain == "segmentation" and isinstance(argument, np.ndarray):
        argument = argument.view(np.int32)
    frames = torch.from_numpy(host).cuda()
    table = torch.from_numpy(np.array(argument)).cuda() if isinstance(argument, np.ndarray) else argument
    torch.cuda.synchronize()
    plain = partial(getattr(torch_chains, chain), torch)
    work = torch.compile(plain, dynamic=False) if compiled else plain
    external = torch.cuda.ExternalStream(stream.ptr)

    def enqueue(_number: int) -> None:
        with torch.cuda.stream(external), torch.no_grad():
            if chain == "depth":
                work(frames, table)
            else:
                work(table, frames)

    return enqueue
