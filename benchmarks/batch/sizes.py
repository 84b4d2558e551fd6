"""The cost of a dataset of each kind: bytes out per byte in, and files per second."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.batch.peers import timed_ingest
from benchmarks.harness.frames import HEIGHT_HD, WIDTH_HD, cloud, depths, photos, segmentations
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, take_turns
from benchmarks.harness.table import Table
from lumatile_kernels.threads import usable_cores
from lumatile_service.batch import LogCall, SourceFiles, ingest
from lumatile_service.batch.formats.contents import depth_png, segmentation_png
from lumatile_service.batch.formats.kitti import log_scan

ROUNDS = 3
FILES = 200
PICTURES = 16
SCAN_POINTS = 120_000
"""About the number of points of one turn of a Velodyne HDL-64E."""

JPEG, PNG, DEPTH, IDS, SCAN = "1920x1080 JPEG", "1920x1080 PNG", "640x480 depth PNG", "1920x1080 ids PNG", "lidar scan"


def sizes(options: Options, folder: Path) -> Table:
    """Return the table of kinds."""
    count = 32 if options.quick else FILES
    sources = {name: folder / name.replace(" ", "-") for name in (JPEG, PNG, DEPTH, IDS, SCAN)}
    bytes_in = {
        name: _write(source, count, encoded())
        for (name, source), encoded in zip(sources.items(), (_jpeg, _png, _depth, _ids, _scans), strict=True)
    }
    jobs: Mapping[str, tuple[str, dict[str, Any]]] = {
        f"{JPEG}, linear": (JPEG, {}),
        f"{JPEG}, srgb8": (JPEG, {"tile_format": "srgb8"}),
        f"{JPEG}, rgba32float": (JPEG, {"tile_format": "rgba32float"}),
        f"{PNG}, linear": (PNG, {}),
        f"{PNG}, srgb8": (PNG, {"tile_format": "srgb8"}),
        DEPTH: (DEPTH, {"reader": f"{__name__}:depth_files"}),
        IDS: (IDS, {"reader": f"{__name__}:id_files"}),
        f"{SCAN}, {SCAN_POINTS:,} points": (SCAN, {"reader": f"{__name__}:scan_files"}),
    }
    bytes_out = {name: _bytes_out(sources[of], folder / "out", settings) for name, (of, settings) in jobs.items()}
    turns = take_turns(
        [
            Contender(name=name, run=partial(timed_ingest, sources[of], folder / "out", **settings))
            for name, (of, settings) in jobs.items()
        ],
        options.rounds(ROUNDS),
    )
    cores = usable_cores()
    for source in sources.values():
        shutil.rmtree(source)
    return Table(
        title=f"{count} files of each kind: what they take",
        columns=("what", "KB in a file", "bytes out a byte in", "files/s a core", "MB/s in a core", "MB/s out a core"),
        rows=[
            [
                name,
                bytes_in[of] / count / 1e3,
                bytes_out[name] / bytes_in[of],
                count / turns.median(name) / cores,
                bytes_in[of] / turns.median(name) / cores / 1e6,
                bytes_out[name] / turns.median(name) / cores / 1e6,
            ]
            for name, (of, _) in jobs.items()
        ],
        notes=["Whole jobs of the local engine, starting and flushing included."],
        seconds=turns.seconds,
    )


def depth_files(files: SourceFiles) -> Iterator[LogCall]:
    """Read the files of a dataset; see `lumatile_service.batch`."""
    return _files(files, "depth", partial(depth_png, meter=5000))


def id_files(files: SourceFiles) -> Iterator[LogCall]:
    """Read the files of a dataset; see `lumatile_service.batch`."""
    return _files(files, "segmentation", segmentation_png)


def scan_files(files: SourceFiles) -> Iterator[LogCall]:
    """Read the files of a dataset; see `lumatile_service.batch`."""
    return _files(files, "points", log_scan)


def _files(files: SourceFiles, kind: Any, log: Callable[..., None]) -> Iterator[LogCall]:
    for path in files.sizes:
        yield LogCall(entity_path=kind, kind=kind, uri=files.uri(path), read=partial(files.read, path), log=log)


def _bytes_out(source: Path, store: Path, settings: Mapping[str, Any]) -> int:
    summary = ingest(source, store, **settings)
    assert not summary.errors
    shutil.rmtree(store)
    return summary.bytes_out


def _write(source: Path, count: int, encoded: list[tuple[str, bytes]]) -> int:
    source.mkdir()
    for i in range(count):
        suffix, content = encoded[i % len(encoded)]
        (source / f"{i}{suffix}").write_bytes(content)
    return sum(len(encoded[i % len(encoded)][1]) for i in range(count))


def _jpeg() -> list[tuple[str, bytes]]:
    return [_encoded(picture, ".jpg", quality=90) for picture in photos(HEIGHT_HD, WIDTH_HD, PICTURES)]


def _png() -> list[tuple[str, bytes]]:
    return [_encoded(picture, ".png") for picture in photos(HEIGHT_HD, WIDTH_HD, PICTURES // 4)]


def _depth() -> list[tuple[str, bytes]]:
    return [_encoded(picture, ".png") for picture in depths(480, 640, PICTURES)]


def _ids() -> list[tuple[str, bytes]]:
    return [_encoded(picture, ".png") for picture in segmentations(HEIGHT_HD, WIDTH_HD, PICTURES // 4)]


def _scans() -> list[tuple[str, bytes]]:
    points = np.concatenate([cloud(SCAN_POINTS), np.zeros((SCAN_POINTS, 1), np.float32)], axis=1)
    return [(".bin", points.tobytes())]


def _encoded(picture: Any, suffix: str, **options: Any) -> tuple[str, bytes]:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, {".jpg": "jpeg", ".png": "png"}[suffix], **options)
    return suffix, stream.getvalue()
