"""A backend compared with the specification, byte for byte: payloads, tile indexes, value ranges, orders of points."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.cases import FULL, QUICK, Case, Scope, cases
from benchmarks.gpu_check.device_tensors import check_tensors
from benchmarks.gpu_check.findings import Findings, last_line
from benchmarks.gpu_check.gpu import PoisonedDevice
from benchmarks.harness.table import Cell, Table
from lumatile_kernels.backend import Backend, PointOrder, TileBlock
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_kernels.selection import select_host_backend

SHOWN = 40
"""The most differences that are reported."""


def measure(findings: Findings, *, quick: bool) -> None:
    """Compare CUDA on the real device, with poisoned memory, with numpy."""
    device = PoisonedDevice()
    check = Check(lambda: CudaBackend(device, select_host_backend))
    check.run(QUICK if quick else FULL)
    findings.add(check.table(device.name))
    findings.failures += check.differences
    findings.save()
    for library in ("cupy",) if quick else ("cupy", "torch"):
        with findings.attempt(f"tensors of {library}"):
            check_tensors(findings, device, library)


@dataclass(kw_only=True)
class CaseGroup:
    """The cases of one kind."""

    cases: int = 0
    differ: int = 0
    nbytes: int = 0
    """The bytes of payloads and orders that were compared."""
    seconds: float = 0.0


class Check:
    """Compares backends with numpy, and reports the differences."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        """Compare a new backend from `make` in each case, so that no memory holds the content of an earlier case."""
        self._make = make
        self.groups: dict[str, CaseGroup] = {}
        self.differences: list[str] = []
        """The first differences, by case."""

    def run(self, scope: Scope) -> None:
        """Run all cases of a scope."""
        for case in cases(scope):
            self._compare(case)

    def _compare(self, case: Case) -> None:
        group = self.groups.setdefault(case.group, CaseGroup())
        start = time.monotonic()
        expected = case.call(NumpyBackend(), _filled(0x54))
        try:
            with no_warnings():
                found = case.call(self._make(), _filled(0xAB))
            difference = difference_of(expected, found)
        except Exception as e:  # noqa: BLE001 - a case that fails differs
            difference = last_line(e)
        group.cases += 1
        group.nbytes += sum(_nbytes(answer) for answer in expected)
        group.seconds += time.monotonic() - start
        if difference:
            group.differ += 1
            if len(self.differences) < SHOWN:
                self.differences.append(f"{case.group}: {case.name}: {difference}")
                print(f"DIFFERS {self.differences[-1]}", flush=True)

    def table(self, device: str) -> Table:
        """Return the number of identical cases of each kind."""
        rows: list[list[Cell]] = [
            [n, g.cases, g.cases - g.differ, g.nbytes / 1e6, g.seconds] for n, g in self.groups.items()
        ]
        return Table(
            title="Correctness",
            columns=("kind", "cases", "identical", "MB compared", "seconds"),
            rows=rows,
            notes=[
                f"{device} compared with the numpy backend: payloads with padding, tile indexes, value ranges, orders.",
                "Device memory and payload buffers were filled with a pattern before each case.",
            ],
        )


def _filled(pattern: int) -> Callable[[int], NDArray[np.uint8]]:
    return lambda nbytes: np.full(nbytes, pattern, np.uint8)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Turn warnings of the kernels into errors, for example that the host has taken over."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    listener, logger = Listener(logging.WARNING), logging.getLogger("lumatile_kernels")
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
    if said:
        raise RuntimeError(said[0])


def _nbytes(answer: Any) -> int:
    if isinstance(answer, PointOrder):
        return answer.positions.nbytes + answer.order.nbytes
    return 1 if isinstance(answer, bool) else sum(block.payload.nbytes for block in answer)


def difference_of(expected: Sequence[Any], found: Sequence[Any]) -> str:
    """Return the first difference of some answers, empty if they are equal."""
    if len(expected) != len(found):
        return f"{len(found)} answers, not {len(expected)}"
    for i, (one, other) in enumerate(zip(expected, found, strict=True)):
        if isinstance(one, bool):
            difference = "" if one is other else f"{other}, not {one}"
        elif isinstance(one, PointOrder):
            difference = _order_difference(one, other)
        else:
            difference = _block_difference(one, other)
        if difference:
            return f"frame {i}: {difference}" if len(expected) > 1 else difference
    return ""


def _order_difference(expected: PointOrder, found: PointOrder) -> str:
    if expected.counts != found.counts:
        return f"levels of {found.counts} points, not {expected.counts}"
    for name in ("origin", "order", "positions"):
        if difference := _array_difference(getattr(expected, name), getattr(found, name)):
            return f"{name}: {difference}"
    return ""


def _block_difference(expected: Sequence[TileBlock], found: Sequence[TileBlock]) -> str:
    """Return the first difference of blocks; planes may be interleaved in any way, but each plane has its order."""
    for plane in sorted({block.plane for block in (*expected, *found)}):
        ours = [block for block in expected if block.plane == plane]
        others = [block for block in found if block.plane == plane]
        for number, (one, other) in enumerate(zip_longest(ours, others)):
            if one is None or other is None:
                return f"{len(others)} blocks of plane {plane}, not {len(ours)}"
            for field in fields(one.tiles):
                if difference := _array_difference(getattr(one.tiles, field.name), getattr(other.tiles, field.name)):
                    return f"{plane}, block {number}: tile index, {field.name}: {difference}"
            if difference := _array_difference(one.payload, other.payload):
                return f"{plane}, block {number}, {_tile_of(one, other)}: payload, {difference}"
            if (one.value_range is None) != (other.value_range is None):
                return f"{plane}, block {number}: one has value ranges, the other has none"
            if one.value_range is not None and other.value_range is not None:
                # NaN is NaN, whatever its bits
                pair = [np.where(np.isnan(r), np.nan, r) for r in (one.value_range, other.value_range)]
                if difference := _array_difference(*pair):
                    return f"{plane}, block {number}: value ranges, {difference}"
    return ""


def _tile_of(expected: TileBlock, found: TileBlock) -> str:
    """Return the tile of the first byte that differs."""
    if len(expected.payload) != len(found.payload):
        return "all tiles"
    at = int(np.flatnonzero(expected.payload != found.payload)[0])
    tiles = expected.tiles
    i = int(np.searchsorted(tiles.offset, at, side="right")) - 1
    row, byte = divmod(at - int(tiles.offset[i]), int(tiles.row_pitch[i]))
    return f"tile level {tiles.level[i]} x {tiles.x[i]} y {tiles.y[i]}, row {row}, byte {byte}"


def _array_difference(expected: NDArray[Any], found: NDArray[Any]) -> str:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{found.dtype} {found.shape}, not {expected.dtype} {expected.shape}"
    one, other = (np.ascontiguousarray(a).reshape(-1).view(np.uint8) for a in (expected, found))
    if np.array_equal(one, other):
        return ""
    differ = np.flatnonzero(one != other)
    at = int(differ[0])
    return f"{len(differ)} of {len(one)} bytes differ, the first at {at}: {other[at]:#04x}, not {one[at]:#04x}"
