"""JPEG decoding on the GPU, compared with the decoder on all CPU cores."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.findings import Findings, last_line
from benchmarks.gpu_check.frames import HEIGHT_4K, HEIGHT_HD, WIDTH_4K, WIDTH_HD
from benchmarks.harness.table import Cell, Table
from lumatile_kernels.decode.errors import DecodeError

SIZES = {"640x480": (480, 640), "1080p": (HEIGHT_HD, WIDTH_HD), "4K": (HEIGHT_4K, WIDTH_4K)}
BATCHES = (1, 16, 128)
DIFFERENT = 4
"""The pictures of a size; larger batches repeat them."""

QUALITY = 90
SECONDS = 1.0
"""The approximate time of each measurement, in seconds."""

Encode = Callable[[NDArray[np.uint8]], bytes]
Decode = Callable[[Sequence[bytes]], Sequence[Any]]


def measure(findings: Findings, *, quick: bool) -> None:
    """Add the table of decoders, or a note if DALI or an encoder of JPEG files is missing."""
    encode = _encoder(findings)
    if encode is None:
        findings.note("JPEG: none of simplejpeg, Pillow and torchvision is here to make files with")
        return
    from lumatile_kernels.decode.jpeg import DaliDecoder, TurboDecoder

    cores = os.cpu_count() or 1
    makers: dict[str, Callable[[], Any]] = {
        "DALI, mixed": partial(DaliDecoder, device="mixed"),  # type: ignore[call-arg, unused-ignore]
        "DALI, CPU, all cores": partial(DaliDecoder, threads=cores),
        "libjpeg-turbo, CPU, all cores": partial(TurboDecoder, threads=cores),
    }
    decoders: dict[str, Decode] = {}
    for name, make in makers.items():
        try:
            decoders[name] = make().decode
        except Exception as e:  # noqa: BLE001 - a decoder that cannot run here is left out
            findings.note(f"JPEG: no figures for {name}: {last_line(e)}")
    if not decoders:
        return
    rows: list[list[Cell]] = []
    seconds: dict[str, list[float]] = {}
    for size, (height, width) in SIZES.items():
        pictures = [encode(_picture(height, width, seed)) for seed in range(2 if quick else DIFFERENT)]
        for batch in BATCHES[:2] if quick else BATCHES:
            files = [pictures[i % len(pictures)] for i in range(batch)]
            for name, decode in decoders.items():
                title = f"{size}, {batch} a batch, {name}"
                with findings.attempt(f"JPEG {title}"):
                    taken = _rounds(decode, files)
                    speed = batch / median(taken)
                    bits = 8 * sum(map(len, files)) / (batch * height * width)
                    rows.append([size, batch, name, speed, speed * height * width / 1e6, bits])
                    seconds[title] = taken
    findings.add(
        Table(
            title="JPEG decoding",
            columns=("size", "batch", "decoder", "images/s", "megapixels/s", "bits a pixel"),
            rows=rows,
            seconds=seconds,
            notes=[
                f"Synthetic pictures, quality {QUALITY}, {cores} cores; wall clock, median, until all are decoded.",
                "Mixed leaves the pictures on the device; the others put them in host memory.",
            ],
        )
    )


def _rounds(decode: Decode, files: Sequence[bytes]) -> list[float]:
    """Return the seconds of each round; raise the error of a file that cannot be decoded."""
    for _ in range(2):
        _finish(decode(files))
    taken: list[float] = []
    while len(taken) < 3 or (sum(taken) < SECONDS and len(taken) < 100):
        start = time.perf_counter()
        _finish(decode(files))
        taken.append(time.perf_counter() - start)
    return taken


def _finish(pictures: Sequence[Any]) -> None:
    """Wait for pictures on a device."""
    for picture in pictures:
        if isinstance(picture, DecodeError):
            raise picture
    for picture in pictures:
        if not isinstance(picture, np.ndarray):
            picture.device.synchronize(picture.ready)


def _picture(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Return a picture like a photograph: soft shapes of all sizes, and a little noise."""
    rng = np.random.default_rng(seed)
    picture = rng.normal(0, 4, (height, width, 3))
    for cell in (256, 64, 16, 4):
        coarse = rng.normal(0, 4 * cell**0.5, (-(-height // cell) + 1, -(-width // cell) + 1, 3))
        y, x = np.arange(height) / cell, np.arange(width) / cell
        top, left = y.astype(int), x.astype(int)
        fy, fx = (y - top)[:, None, None], (x - left)[None, :, None]
        upper = coarse[top][:, left] * (1 - fx) + coarse[top][:, left + 1] * fx
        lower = coarse[top + 1][:, left] * (1 - fx) + coarse[top + 1][:, left + 1] * fx
        picture += upper * (1 - fy) + lower * fy
    return np.clip(picture + 128, 0, 255).astype(np.uint8)


def _encoder(findings: Findings) -> Encode | None:
    for make in (_simplejpeg, _pillow, _torchvision):
        try:
            encode = make()
            encode(np.zeros((16, 16, 3), np.uint8))
        except Exception as e:  # noqa: BLE001 - the next one may do
            findings.note(f"JPEG: {make.__name__[1:]} makes no files here: {last_line(e)}")
        else:
            return encode
    return None


def _simplejpeg() -> Encode:
    from simplejpeg import encode_jpeg

    return lambda picture: encode_jpeg(picture, QUALITY, colorsubsampling="420")


def _pillow() -> Encode:
    from PIL import Image

    def encode(picture: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
        return file.getvalue()

    return encode


def _torchvision() -> Encode:
    import torch
    from torchvision.io import encode_jpeg

    def encode(picture: NDArray[np.uint8]) -> bytes:
        return bytes(encode_jpeg(torch.from_numpy(picture).permute(2, 0, 1).contiguous(), QUALITY).numpy().tobytes())

    return encode
