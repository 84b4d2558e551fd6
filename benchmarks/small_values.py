"""Many small values until they are durable, beside rerun-sdk with the same calls."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lumatile as lt
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, Timings, take_turns
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Bar, Cell, Table

ROUNDS = 10
OURS, PEER = "lumatile", "rerun-sdk"
OVERHEAD = 100
"""The most bytes that a value may take in the store in addition to its tiles."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallKind:
    """One kind of small value."""

    name: str
    data: Sequence[NDArray[Any]]
    """The values of a run: no two are equal, so that nothing compresses better than in a program."""
    ours: Callable[[lt.RecordingStream, NDArray[Any]], None]
    peer: Callable[[Any, Any, NDArray[Any]], None]
    """The same call of rerun-sdk, which gets the module, the stream and the value."""
    tile_bytes: int
    """The bytes of the tiles of a value, without padding; of a context, its JSON."""


def measure(options: Options) -> list[Table]:
    """Return the table of small values."""
    try:
        import rerun
    except ImportError:
        rerun = None
    rows: list[list[Cell]] = []
    bars: list[Bar] = []
    seconds: dict[str, Sequence[float]] = {}
    for kind in _kinds(400 if options.quick else 3000):
        sizes: dict[str, list[int]] = {OURS: [], PEER: []}
        with scratch(options.disk) as folder:
            folders = (folder / str(n) for n in itertools.count())
            begin = {OURS: partial(_ours, kind)}
            if rerun is not None:
                begin[PEER] = partial(_peer, rerun, kind)
            runs = [Contender(name=name, run=_timed(each, folders, sizes[name])) for name, each in begin.items()]
            turns = take_turns(runs, options.rounds(ROUNDS))
        values = len(kind.data)
        ours, there = turns.median(OURS) / values, turns.seconds
        stored = sizes[OURS][-1] / values
        rows.append(
            [
                kind.name,
                ours * 1e6,
                turns.median(PEER) / values * 1e6 if PEER in there else None,
                turns.ratio(OURS, PEER) if PEER in there else None,
                stored - kind.tile_bytes,
                sizes[PEER][-1] / values - kind.data[0].nbytes if PEER in there else None,
            ]
        )
        bars.append(_size_bar(kind, stored))
        if PEER in there:
            bars.append(_rate_bar(kind, turns))
        seconds |= {f"{kind.name}, {name}": each for name, each in there.items()}
    return [
        Table(
            title="Small values, logged and durable",
            columns=(
                "a value",
                "us",
                f"{PEER} us",
                f"times {PEER}",
                "bytes beyond its tiles",
                f"{PEER}, beyond its data",
            ),
            rows=rows,
            notes=[
                "Each value: set_time_sequence and the log call, into an open stream; after all of them one flush.",
                "Lumatile's files are synced to the disk, as always; those of rerun-sdk are not.",
                "All values differ. Points are float32; images are random uint8 RGB, stored as linear float16.",
                "Below 0: tiles are compressed together, and the padding of rows with them.",
            ],
            bars=bars,
            seconds=seconds,
        )
    ]


def _kinds(count: int) -> list[SmallKind]:
    random = np.random.default_rng(0)

    def clouds(points: int) -> list[NDArray[np.float32]]:
        return list(random.random((count, points, 3), np.float32))

    def images(side: int) -> list[NDArray[np.uint8]]:
        return list(random.integers(0, 256, (count // 3, side, side, 3), np.uint8))

    def points_kind(name: str, points: int) -> SmallKind:
        return SmallKind(
            name=name,
            data=clouds(points),
            ours=lambda stream, cloud: stream.log_points("small", cloud),
            peer=lambda rr, stream, cloud: stream.log("small", rr.Points3D(cloud)),
            tile_bytes=12 * points,
        )

    def image_kind(side: int) -> SmallKind:
        return SmallKind(
            name=f"log_image, {side}x{side}",
            data=images(side),
            ours=lambda stream, image: stream.log_image("small", image),
            peer=lambda rr, stream, image: stream.log("small", rr.Image(image)),
            tile_bytes=8 * side * side,
        )

    return [
        SmallKind(
            name="log_point",
            data=[cloud[0] for cloud in clouds(1)],
            ours=lambda stream, point: stream.log_point("small", point),
            peer=lambda rr, stream, point: stream.log("small", rr.Points3D([point])),
            tile_bytes=12,
        ),
        points_kind("log_points, 10", 10),
        points_kind("log_points, 1,000", 1000),
        image_kind(32),
        image_kind(64),
        SmallKind(
            name="log_annotation_context",
            data=[np.array([n], np.uint16) for n in range(count // 3)],
            ours=lambda stream, id_: stream.log_annotation_context("small", (int(id_[0]), "car", (255, 0, 0))),
            peer=lambda rr, stream, id_: stream.log("small", rr.AnnotationContext([(int(id_[0]), "car", (255, 0, 0))])),
            tile_bytes=len('{"classes": [{"id": 100, "label": "car", "color": [255, 0, 0, 255]}]}'),
        ),
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """A stream that is open: its first value, which opens it, is durable."""

    work: Callable[[], None]
    """Logs all values and flushes."""
    close: Callable[[], int]
    """Closes the stream and returns the bytes stored since it was open."""


def _timed(begin: Callable[[Path], _Run], folders: Iterator[Path], stored: list[int]) -> Callable[[], float]:
    """Return a function that measures the seconds of a run's work; the bytes stored are added to `stored`."""

    def run() -> float:
        opened = begin(next(folders))
        start = time.perf_counter()
        opened.work()
        seconds = time.perf_counter() - start
        stored.append(opened.close())
        return seconds

    return run


def _ours(kind: SmallKind, folder: Path) -> _Run:
    recording = lt.new_recording("benchmark", sink=folder)
    kind.ours(recording, kind.data[0])
    recording.flush()
    before = _size(folder)

    def work() -> None:
        for number, value in enumerate(kind.data):
            recording.set_time_sequence("frame", number)
            kind.ours(recording, value)
        recording.flush()

    def close() -> int:
        stored = _size(folder) - before
        recording.disconnect()
        return stored

    return _Run(work=work, close=close)


def _peer(rerun: Any, kind: SmallKind, folder: Path) -> _Run:
    path = folder.with_suffix(".rrd")
    recording = rerun.RecordingStream("benchmark")
    recording.save(path)
    kind.peer(rerun, recording, kind.data[0])
    recording.flush()
    before = path.stat().st_size

    def work() -> None:
        for number, value in enumerate(kind.data):
            recording.set_time("frame", sequence=number)
            kind.peer(rerun, recording, value)
        recording.flush()

    def close() -> int:
        stored = path.stat().st_size - before
        recording.disconnect()
        return stored

    return _Run(work=work, close=close)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.arrow"))


def _size_bar(kind: SmallKind, stored: float) -> Bar:
    return Bar(
        promise=f"{kind.name}, bytes beyond its tiles", value=max(0.0, stored - kind.tile_bytes), limit=float(OVERHEAD)
    )


def _rate_bar(kind: SmallKind, turns: Timings) -> Bar:
    return Bar(promise=f"{kind.name}, times {PEER}", value=turns.ratio(OURS, PEER), limit=1.0)
