"""End to end: frames from memory to disk, compared with a raw write of the same bytes and with other libraries."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness.frames import HEIGHT_4K, HEIGHT_HD, WIDTH_4K, WIDTH_HD, Workload, depths, photos, segmentations
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, SkippedError, Timings, take_turns
from benchmarks.harness.scratch import file_sizes, scratch
from benchmarks.harness.table import Bar, Table
from benchmarks.harness.warm_memory import warm_memory
from benchmarks.writers.lumatile_writer import LumatileWriter
from benchmarks.writers.raw_writer import RawWriter
from benchmarks.writers.rerun_writer import RerunWriter
from benchmarks.writers.tensorstore_writer import TensorstoreWriter
from benchmarks.writers.vips_writer import VipsWriter
from benchmarks.writers.writer import FrameWriter
from benchmarks.writers.zarr_writer import ZarrWriter
from lumatile.settings import TileFormat

ROUNDS = 6
FRAMES = 12
QUICK_FRAMES = 3
LUMATILE, RAW, DIRECT = "lumatile {}", "raw write, {}", "raw write O_DIRECT, {}"
SAMPLE_BYTES = 128 << 20
"""The number of bytes of a real store that raw writes repeat."""
MARGIN_BYTES = 64 << 20
"""The memory to make warm, in bytes, in addition to the logged and the written bytes."""
PEERS: tuple[Callable[[Workload], FrameWriter], ...] = (
    lambda _: RerunWriter(),
    lambda _: RerunWriter(fsync=True),
    lambda _: TensorstoreWriter(),
    lambda _: TensorstoreWriter(fsync=False),
    lambda _: ZarrWriter(),
    partial(VipsWriter, "jpg"),
    partial(VipsWriter, "png"),
)


@dataclass(frozen=True, kw_only=True)
class WrittenFrames:
    """The files of a store."""

    sizes: Sequence[int]
    """The size of each file, in bytes."""
    sample: bytes
    """The first bytes of the largest file."""


def measure(options: Options) -> list[Table]:
    """Return a table per workload; the bars are about 4K."""
    count = QUICK_FRAMES if options.quick else FRAMES
    tables = [_table(_photos("3840x2160 RGB", HEIGHT_4K, WIDTH_4K, count), options, _bars)]
    if not options.quick:
        tables.append(_table(_photos("1920x1080 RGB", HEIGHT_HD, WIDTH_HD, count), options))
    depth, ids = depths(HEIGHT_HD, WIDTH_HD, count), segmentations(HEIGHT_HD, WIDTH_HD, count)
    tables.append(_table(Workload(name="1920x1080 16-bit depth", kind="depth", frames=depth), options))
    tables.append(_table(Workload(name="1920x1080 segmentation", kind="segmentation", frames=ids), options))
    return tables


def _photos(name: str, height: int, width: int, count: int) -> Workload:
    return Workload(name=name, kind="image", frames=photos(height, width, count))


def _table(workload: Workload, options: Options, bars: Callable[[Timings], list[Bar]] = lambda _: []) -> Table:
    writers, notes = _writers(workload, options.disk)
    ours = [writer.name for writer in writers if isinstance(writer, LumatileWriter)]
    stored: dict[str, int] = {}
    turns = take_turns(
        [Contender(name=writer.name, run=partial(_time, writer, workload, options.disk, stored)) for writer in writers],
        options.rounds(ROUNDS),
    )
    count = len(workload.frames)
    return Table(
        title=f"End to end: {workload.name}",
        columns=(
            "writer",
            "what it includes",
            "ms/frame",
            "logged MB/s",
            "MB/frame on disk",
            *(f"times {name}" for name in ours),
        ),
        rows=[
            [
                writer.name,
                writer.includes,
                turns.median(writer.name) / count * 1e3,
                workload.nbytes / 1e6 / turns.median(writer.name),
                stored[writer.name] / count / 1e6,
                *(turns.ratio(writer.name, name) for name in ours),
            ]
            for writer in writers
        ],
        notes=[
            f"{count} different frames, {workload.nbytes / count / 1e6:.1f} MB each.",
            "Timed from opening to the last flush, without closing; ratios are to Lumatile's time.",
            *notes,
        ],
        bars=bars(turns),
        seconds=turns.seconds,
    )


def _writers(workload: Workload, disk: Path) -> tuple[list[FrameWriter], list[str]]:
    """Return Lumatile's writers between raw writes of their bytes, then the peers, and why peers are skipped."""
    writers: list[FrameWriter] = []
    formats: tuple[TileFormat, ...] = ("linear", "srgb8") if workload.kind == "image" else ("linear",)
    for tile_format in formats:
        way = tile_format if workload.kind == "image" else workload.kind
        lumatile = LumatileWriter(LUMATILE.format(way), workload, tile_format)
        written = _write_once(lumatile, workload, disk)
        writers += [
            RawWriter(RAW.format(way), written.sizes, written.sample),
            lumatile,
            RawWriter(DIRECT.format(way), written.sizes, written.sample, direct=True),
        ]
    skipped = []
    for peer in PEERS:
        try:
            writers.append(peer(workload))
        except SkippedError as e:
            skipped.append(f"skipped: {e}")
    return writers, skipped


def _time(writer: FrameWriter, workload: Workload, disk: Path, stored: dict[str, int]) -> float:
    """Return the seconds that a writer takes in an empty folder of an idle disk."""
    with scratch(disk) as folder:
        os.sync()
        warm_memory(stored.get(writer.name, 0) + workload.nbytes + MARGIN_BYTES)
        start = time.perf_counter()
        close = writer.write(workload, folder)
        seconds = time.perf_counter() - start
        close()
        stored[writer.name] = sum(file_sizes(folder))
    return seconds


def _write_once(writer: LumatileWriter, workload: Workload, disk: Path) -> WrittenFrames:
    with scratch(disk) as folder:
        writer.write(workload, folder)()
        writer.check(workload, folder)
        sizes = file_sizes(folder)
        largest = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        with largest.open("rb") as file:
            return WrittenFrames(sizes=sizes, sample=file.read(SAMPLE_BYTES))


def _bars(turns: Timings) -> list[Bar]:
    """Return the bars at 4K; if writing the bytes alone takes longer than a bar allows, there is no room for it."""
    linear, srgb8 = LUMATILE.format("linear"), LUMATILE.format("srgb8")
    raw_linear, raw_srgb8 = RAW.format("linear"), RAW.format("srgb8")
    bars = [
        Bar(promise="linear, times a raw write", value=turns.ratio(linear, raw_linear), limit=1.2),
        Bar(promise="srgb8, times a raw write", value=turns.ratio(srgb8, raw_srgb8), limit=1.4),
    ]
    rerun = "rerun-sdk"
    if rerun in turns.seconds:
        raw_of_linear, room_srgb8 = turns.ratio(raw_linear, rerun), turns.ratio(rerun, raw_srgb8)
        bars += [
            Bar(
                promise="linear, times rerun-sdk",
                value=turns.ratio(linear, rerun),
                limit=1.0,
                no_room=f"the raw write alone takes {raw_of_linear:.2f} times as long" if raw_of_linear > 1 else None,
            ),
            Bar(
                promise="srgb8, times faster than rerun-sdk",
                value=turns.ratio(rerun, srgb8),
                limit=1.7,
                at_least=True,
                no_room=f"the raw write alone is {room_srgb8:.2f} times as fast" if room_srgb8 < 1.7 else None,
            ),
        ]
    others = [n for n in turns.seconds if not n.startswith(("lumatile", "raw", "rerun"))]
    for name, ours in (("linear", linear), ("srgb8", srgb8)):
        if others:
            fastest = min(others, key=lambda peer: turns.ratio(peer, ours))
            bars.append(
                Bar(
                    promise=f"{name}, times faster than the fastest other peer ({fastest})",
                    value=turns.ratio(fastest, ours),
                    limit=1.0,
                    at_least=True,
                )
            )
    return bars
