"""The same folder of JPEG files with other tools, and with Ray."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.harness.frames import HEIGHT_HD, WIDTH_HD, photos
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, SkippedError, Timings, clock, take_turns
from benchmarks.harness.table import Bar, Table
from lumatile_kernels.threads import usable_cores
from lumatile_service.batch import ingest

ROUNDS = 3
FILES = 200
FEW, MANY = 100, 700
PICTURES = 16
TILE = 256

VIPS, OPENCV = "libvips dzsave, JPEG tiles", "OpenCV in Ray Data, PNG tiles"
SRGB8, LINEAR = "lumatile ingest, srgb8", "lumatile ingest, linear"
ON_RAY = "lumatile ingest --engine ray, linear"


def write_jpeg_files(source: Path, count: int) -> list[bytes]:
    """Write `count` 1920x1080 JPEG files of PICTURES photos; return their contents."""
    source.mkdir()
    encoded = []
    for picture in photos(HEIGHT_HD, WIDTH_HD, PICTURES):
        stream = BytesIO()
        Image.fromarray(picture).save(stream, "jpeg", quality=90)
        encoded.append(stream.getvalue())
    for i in range(count):
        (source / f"{i}.jpg").write_bytes(encoded[i % PICTURES])
    return [encoded[i % PICTURES] for i in range(count)]


def timed_ingest(source: Path, store: Path, **options: Any) -> float:
    """Return the seconds of a whole job."""
    return _timed(lambda: ingest(source, store, **options), store)


def peers(options: Options, folder: Path) -> list[Table]:
    """Return two tables: the comparison with libvips and OpenCV, and with the engine on Ray."""
    with _ray():
        return [_tools(options, folder), _engines(options, folder)]


def _tools(options: Options, folder: Path) -> Table:
    count = 32 if options.quick else FILES
    source, out = folder / "some", folder / "out"
    write_jpeg_files(source, count)
    works: Mapping[str, Callable[[], object]] = {
        SRGB8: partial(ingest, source, out, tile_format="srgb8"),
        LINEAR: partial(ingest, source, out),
        VIPS: partial(_dzsave, source, out),
        ON_RAY: partial(ingest, source, out, engine="ray"),
        OPENCV: partial(_opencv, source, out),
    }
    turns = take_turns(
        [Contender(name=name, run=partial(_timed, work, out)) for name, work in works.items()], options.rounds(ROUNDS)
    )
    shutil.rmtree(source)
    asked = ((VIPS, SRGB8, 3.0), (VIPS, LINEAR, 1.5), (OPENCV, ON_RAY, 3.0))
    return Table(
        title=f"{count} 1920x1080 JPEG files, other tools",
        columns=("what", "seconds", "files/s"),
        rows=[[name, turns.median(name), count / turns.median(name)] for name in works],
        notes=[
            "On all cores, as many files at a time. Lumatile keeps the JPEG file too, and ends with an fsync.",
            "The others end when what they wrote is in the page cache, and filter as sRGB.",
            "libvips: Deep Zoom, 256 pixels a tile, lossy. OpenCV: resize INTER_AREA, PNG at its fastest level.",
            "What runs on Ray does so in one that is up; starting its actors or tasks is in the figures.",
        ],
        bars=[
            Bar(promise=f"{slow}: times of {fast}", value=turns.ratio(slow, fast), limit=limit, at_least=True)
            for slow, fast, limit in asked
        ],
        seconds=turns.seconds,
    )


def _engines(options: Options, folder: Path) -> Table:
    few, many = (16, 80) if options.quick else (FEW, MANY)
    out = folder / "out"
    sources = {count: folder / f"files-{count}" for count in (few, many)}
    for count, source in sources.items():
        write_jpeg_files(source, count)
    turns = take_turns(
        [
            Contender(name=f"{engine}, {count} files", run=partial(timed_ingest, source, out, engine=engine))
            for count, source in sources.items()
            for engine in ("local", "ray")
        ],
        options.rounds(ROUNDS),
    )
    each = {
        engine: [
            (long - short) / (many - few)
            for short, long in zip(
                turns.seconds[f"{engine}, {few} files"], turns.seconds[f"{engine}, {many} files"], strict=True
            )
        ]
        for engine in ("local", "ray")
    }
    rates = Timings(seconds=each)
    for source in sources.values():
        shutil.rmtree(source)
    return Table(
        title="1920x1080 JPEG files into linear tiles: the two engines",
        columns=("engine", "files/s", f"seconds for {few} files", f"seconds for {many} files"),
        rows=[
            [engine, 1 / rates.median(engine), *(turns.median(f"{engine}, {count} files") for count in (few, many))]
            for engine in ("local", "ray")
        ],
        notes=[f"files/s: of the {many - few} files that the longer job has more, so without starting anything."],
        bars=[
            Bar(
                promise="--engine ray, of the rate of the local one",
                value=rates.ratio("local", "ray"),
                limit=0.7,
                at_least=True,
            )
        ],
        seconds=turns.seconds,
    )


def _timed(work: Callable[[], object], out: Path) -> float:
    seconds = clock(work)()
    shutil.rmtree(out)
    os.sync()
    return seconds


@contextmanager
def _ray() -> Iterator[None]:
    from lumatile_service.cluster.ray_session import ray_session

    with ray_session(None, object_store_bytes=512 << 20):
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


def _cores() -> int:
    return usable_cores()


def _dzsave(source: Path, out: Path) -> None:
    try:
        import pyvips
    except (ImportError, OSError) as e:
        raise SkippedError(f"libvips is not installed: {e}") from e
    pyvips.concurrency_set(1)
    out.mkdir()

    def save(path: Path) -> None:
        image = pyvips.Image.new_from_file(str(path), access="sequential")
        image.dzsave(str(out / path.stem), suffix=".jpg", tile_size=TILE, overlap=0, depth="onetile")

    with ThreadPoolExecutor(_cores()) as pool:
        list(pool.map(save, source.iterdir()))


def _opencv(source: Path, out: Path) -> None:
    import ray.data

    out.mkdir()
    files = ray.data.read_binary_files(str(source), include_paths=True)
    files.map_batches(_png_tiles, fn_kwargs={"out": str(out)}, batch_size=16).materialize()


def _png_tiles(batch: Mapping[str, Any], out: str) -> Mapping[str, Sequence[Any]]:
    """Write a pyramid of PNG files per image, as many users would."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    written = []
    for path, content in zip(batch["path"], batch["bytes"], strict=True):
        level, number = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), 0
        folder = Path(out, Path(path).stem)
        while level is not None:
            (folder / str(number)).mkdir(parents=True)
            height, width = level.shape[:2]
            for y in range(0, height, TILE):
                for x in range(0, width, TILE):
                    name = str(folder / str(number) / f"{x // TILE}_{y // TILE}.png")
                    cv2.imwrite(name, level[y : y + TILE, x : x + TILE], [cv2.IMWRITE_PNG_COMPRESSION, 1])
            written.append(number)
            done = max(height, width) <= TILE
            size = -(-width // 2), -(-height // 2)
            level, number = None if done else cv2.resize(level, size, interpolation=cv2.INTER_AREA), number + 1
    return {"level": np.array(written)}
