"""Reading back: one tile, one latest-at query, and opening a store, by the number of frames in it."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

import lumatile as lt
from benchmarks.harness.frames import HEIGHT_4K, WIDTH_4K, photos
from benchmarks.harness.options import Options
from benchmarks.harness.recording import recording_into
from benchmarks.harness.scratch import scratch
from benchmarks.harness.table import Bar, Cell, Table

TILE_READS = 5000
QUERIES = 2000
OPENINGS = 7
FRAMES = 10
"""The number of 4K frames for tile reads."""
RECORDING, ENTITY = "reading", "camera/rgb"


def measure(options: Options) -> list[Table]:
    """Return the tables of tile reads, and of queries and opening."""
    return [_tiles(options), _queries(options)]


def _tiles(options: Options) -> Table:
    with scratch(options.disk) as folder:
        with recording_into(folder, recording_id=RECORDING) as recording:
            for number, photo in enumerate(photos(HEIGHT_4K, WIDTH_4K, 2 if options.quick else FRAMES)):
                recording.set_time_sequence("frame", number)
                recording.log_image(ENTITY, photo)
        frames = lt.open_store(folder).recording(RECORDING).frames(ENTITY)
        rng = np.random.default_rng(0)
        reads = []
        for number in range(TILE_READS):
            frame = frames[rng.integers(len(frames))]
            level = int(rng.integers(len(frame.levels)))
            height, width = frame.levels[level]
            x, y = int(rng.integers(-(-width // 256))), int(rng.integers(-(-height // 256)))
            start = time.perf_counter()
            frame.tile(level=level, x=x, y=y)
            if number >= TILE_READS // 10:
                reads.append(time.perf_counter() - start)
        del frame, frames
    return Table(
        title="Tile reads",
        columns=("frames", "median us", "99th percentile us"),
        rows=[["3840x2160 RGB, linear", median(reads) * 1e6, float(np.quantile(reads, 0.99)) * 1e6]],
        notes=["frame.tile(level, x, y) at random places of random frames: a zero-copy view of the mapped file."],
        bars=[Bar(promise="a tile read, us", value=median(reads) * 1e6, limit=20)],
    )


def _queries(options: Options) -> Table:
    sizes = (10**3, 10**4) if options.quick else (10**3, 10**4, 10**5)
    rows: list[list[Cell]] = []
    openings, queries = [], []
    seconds: dict[str, list[float]] = {}
    for size in sizes:
        with scratch(options.disk) as folder:
            logged = _log_tiny(folder, size)
            opened, queried = _open(folder), _query(folder, size)
            segments = sum(1 for _ in folder.rglob("frames/*.arrow"))
        openings.append(median(opened))
        queries.append(median(queried))
        rows.append(
            [
                size,
                segments,
                openings[-1] * 1e3,
                queries[-1] * 1e6,
                float(np.quantile(queried, 0.99)) * 1e6,
                size / logged,
            ]
        )
        seconds[f"open, {size} frames"] = opened
    return Table(
        title="Opening and latest-at queries",
        columns=(
            "frames",
            "segments",
            "open + first query ms",
            "latest_at us",
            "99th percentile us",
            "logged frames/s",
        ),
        rows=rows,
        notes=[
            "1x1 images of one entity on a sequence timeline, files in the page cache.",
            "Opening: open_store, recording and a first latest_at; queries: at random frames afterwards.",
        ],
        bars=[
            Bar(promise=f"latest_at on {sizes[-1]:,} frames, us", value=queries[-1] * 1e6, limit=1000),
            *(
                Bar(promise=f"opening {b:,} frames, times opening {a:,}", value=tb / ta, limit=b / a)
                for (a, ta), (b, tb) in pairwise(zip(sizes, openings, strict=True))
            ),
        ],
        seconds=seconds,
    )


def _log_tiny(folder: Path, count: int) -> float:
    """Return the seconds to log `count` frames durably."""
    texel = np.full((1, 1, 3), 128, np.uint8)
    start = time.perf_counter()
    with recording_into(folder, recording_id=RECORDING, max_block=None) as recording:
        for number in range(count):
            recording.set_time_sequence("frame", number)
            recording.log_image(ENTITY, texel)
    return time.perf_counter() - start


def _open(folder: Path) -> list[float]:
    taken = []
    for _ in range(OPENINGS + 1):
        start = time.perf_counter()
        lt.open_store(folder).recording(RECORDING).latest_at(ENTITY, frame=0)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def _query(folder: Path, size: int) -> list[float]:
    recording = lt.open_store(folder).recording(RECORDING)
    taken = []
    for at in np.random.default_rng(0).integers(0, size, QUERIES):
        start = time.perf_counter()
        frame = recording.latest_at(ENTITY, frame=int(at))
        taken.append(time.perf_counter() - start)
        if frame is None or frame.times["frame"] != at:
            raise RuntimeError(f"latest_at gave {frame} for frame {at}")
    return taken[QUERIES // 10 :]
