"""A folder of 1080p JPEG files into tiles, compared with its two parts: only decoding, and only writing the bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa

from benchmarks.batch.peers import timed_ingest, write_jpeg_files
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, Timings, clock, take_turns
from benchmarks.harness.table import Bar, Table
from lumatile.buffers import POOL
from lumatile.storage.direct_file import DirectFile
from lumatile.storage.write_behind import WriteBehind
from lumatile_kernels.decode.jpeg import select_jpeg_decoder
from lumatile_service.batch import ingest

ROUNDS = 4
FILES = 1000
PICTURES = 16
INGEST, DECODE, WRITE = "lumatile ingest", "decoding alone", "writing the bytes alone"


def parts(options: Options, folder: Path) -> Table:
    """Return the table of a whole job and its two parts."""
    count = 100 if options.quick else FILES
    source = folder / "photos"
    files = write_jpeg_files(source, count)
    written = _ingest(source, folder / "first")
    turns = take_turns(
        [
            Contender(name=INGEST, run=partial(timed_ingest, source, folder / "store")),
            Contender(name=DECODE, run=clock(partial(_decode, files))),
            Contender(name=WRITE, run=partial(_write, folder / "raw", written)),
        ],
        options.rounds(ROUNDS),
    )
    slower = [max(a, b) for a, b in zip(turns.seconds[DECODE], turns.seconds[WRITE], strict=True)]
    share = Timings(seconds={"slower": slower, INGEST: turns.seconds[INGEST]}).ratio("slower", INGEST)
    shutil.rmtree(source)
    return Table(
        title=f"{count} 1920x1080 JPEG files into linear tiles",
        columns=("what", "seconds", "files/s", "MB/s in", "MB/s out"),
        rows=[
            [
                name,
                turns.median(name),
                count / turns.median(name),
                sum(map(len, files)) / 1e6 / turns.median(name),
                None if name == DECODE else written / 1e6 / turns.median(name),
            ]
            for name in (INGEST, DECODE, WRITE)
        ],
        notes=[
            "One recording, to the flush that says all is durable, with listing, reading and hashing the files.",
            "Decoding: libjpeg-turbo on all cores, into warm memory. Writing: past the page cache, and an fsync.",
        ],
        bars=[Bar(promise="ingest, of the slower part alone", value=share, limit=0.8, at_least=True)],
        seconds=turns.seconds,
    )


def _ingest(source: Path, store: Path) -> int:
    """Return the number of written bytes."""
    summary = ingest(source, store)
    assert not summary.errors
    shutil.rmtree(store)
    os.sync()
    return summary.bytes_out


def _decode(files: Sequence[bytes]) -> None:
    decoder = select_jpeg_decoder("turbo")
    for start in range(0, len(files), 16):
        decoder.decode(files[start : start + 16], allocate=POOL.take)


def _write(path: Path, nbytes: int) -> float:
    piece = POOL.take(8 << 20)
    piece[:] = 1
    disk = WriteBehind()
    file = DirectFile(path, disk)

    def write() -> None:
        for _ in range(nbytes // piece.nbytes):
            file.write(pa.py_buffer(piece))
        file.finish()

    seconds = clock(write)()
    file.close()
    disk.close()
    path.unlink()
    os.sync()
    return seconds
