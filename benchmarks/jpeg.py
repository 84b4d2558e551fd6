"""JPEG decoding, compared with simplejpeg, OpenCV and Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness.frames import HEIGHT_4K, HEIGHT_HD, WIDTH_4K, WIDTH_HD, photos
from benchmarks.harness.options import Options
from benchmarks.harness.rounds import Contender, SkippedError, Timings, clock, take_turns
from benchmarks.harness.table import Cell, Table
from lumatile.buffers import POOL
from lumatile_kernels.decode.errors import DecoderUnavailableError
from lumatile_kernels.decode.jpeg import DaliDecoder, TurboDecoder

ROUNDS = 8
QUALITY = 90
BATCH = 8
Decode = Callable[[Sequence[bytes]], object]


def measure(options: Options) -> list[Table]:
    """Return the table of decoders."""
    decoders: dict[str, Decode] = {}
    notes = [
        f"Photographs to RGB, quality {QUALITY}, 4:2:0.",
        "Ours: files checked for corruption first, one thread a core over a batch, reused buffers.",
        "The others as their users call them: one thread, fresh arrays.",
    ]
    for name, make in DECODERS.items():
        try:
            decoders[name] = make()
        except (SkippedError, DecoderUnavailableError) as e:
            notes.append(f"skipped: {name}: {e}")
    rows: list[list[Cell]] = []
    seconds: dict[str, Sequence[float]] = {}
    for size, height, width in (("1080p", HEIGHT_HD, WIDTH_HD), ("4K", HEIGHT_4K, WIDTH_4K)):
        files = [_encode(photo) for photo in photos(height, width, BATCH)]
        for batch in (files[:1], files):
            title = f"{size}, {len(batch)} file{'s' if len(batch) > 1 else ''}"
            turns = take_turns(
                [
                    Contender(name=n, run=clock(partial(d, batch)), warm_bytes=6 * height * width * len(batch))
                    for n, d in decoders.items()
                ],
                options.rounds(ROUNDS),
            )
            rows += [
                [
                    title,
                    name,
                    turns.median(name) / len(batch) * 1e3,
                    height * width / 1e6 * len(batch) / turns.median(name),
                    *(_ratio(turns, peer, name) for peer in PEERS),
                ]
                for name in decoders
            ]
            seconds |= {f"{title}, {name}": s for name, s in turns.seconds.items()}
    return [
        Table(
            title="JPEG decoding",
            columns=("files", "decoder", "ms/file", "megapixels/s", *(f"{peer}'s time in ours" for peer in PEERS)),
            rows=rows,
            notes=notes,
            seconds=seconds,
        )
    ]


def _ratio(turns: Timings, peer: str, name: str) -> float | None:
    return turns.ratio(peer, name) if peer in turns.seconds else None


def _encode(photo: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _turbo() -> Decode:
    decoder = TurboDecoder()
    return lambda files: decoder.decode(files, allocate=POOL.take)


def _dali() -> Decode:
    decoder = DaliDecoder()
    return lambda files: decoder.decode(files, allocate=POOL.take)


def _simplejpeg() -> Decode:
    try:
        from simplejpeg import decode_jpeg
    except ImportError as e:
        raise SkippedError(str(e)) from e
    return lambda files: [decode_jpeg(file, colorspace="RGB") for file in files]


def _opencv() -> Decode:
    try:
        import cv2
    except ImportError as e:
        raise SkippedError(str(e)) from e
    return lambda files: [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB) for file in files]


def _pillow() -> Decode:
    return lambda files: [np.asarray(Image.open(io.BytesIO(file))) for file in files]


PEERS = ("simplejpeg", "OpenCV", "Pillow")
DECODERS: dict[str, Callable[[], Decode]] = {
    "lumatile, DALI": _dali,
    "lumatile, libjpeg-turbo": _turbo,
    "simplejpeg": _simplejpeg,
    "OpenCV": _opencv,
    "Pillow": _pillow,
}
