"""JPEG files with libjpeg-turbo (the simplejpeg wheel), which decides which files are corrupt and how CMYK looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, allocate_array
from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import ImageHeader, read_header
from lumatile_kernels.decode.orientation import upright
from lumatile_kernels.fork import LOCK
from lumatile_kernels.threads import usable_cores

SCAN_LIMIT = 500
"""The most scans that a JPEG file may have: each costs a pass over the whole picture, however few bytes it has."""

Picture = NDArray[np.uint8]
"""(h, w, 1) gray or (h, w, 3) RGB, sRGB gamma."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class TurboDecoder:
    """The decoder that uses libjpeg-turbo; see `JpegDecoder`."""

    def __init__(self, threads: int | None = None) -> None:
        """Use simplejpeg.

        Args:
            threads: the number of files that are decoded at the same time; None: one per core, at most 4.

        Raises:
            DecoderUnavailableError: The package simplejpeg is not installed.
        """
        self._threads = threads or usable_cores(4)
        self.name = f"simplejpeg {simplejpeg().__version__}"

    def decode(self, files: Sequence[bytes], *, allocate: Allocate = allocate_array) -> list[Picture | DecodeError]:
        """Decode files; see `JpegDecoder.decode`."""
        return each(partial(_decode, allocate), files, self._threads)

    def decoded_by(self, picture: object) -> str:  # noqa: ARG002 - see JpegDecoder
        """Return the name and version of the library; see `JpegDecoder.decoded_by`."""
        return self.name


def simplejpeg() -> ModuleType:
    """Import and return the module simplejpeg. Raises DecoderUnavailableError."""
    try:
        with LOCK:  # a child could never import what this thread was importing
            import simplejpeg
    except ImportError as e:
        raise DecoderUnavailableError(f"JPEG needs the package simplejpeg (pip install 'lumatile[local]'): {e}") from e
    return simplejpeg  # type: ignore[no-any-return]


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Encode a picture, C-contiguous, as a JPEG file without chroma subsampling.

    `quality`: 1 to 100. Raises DecoderUnavailableError if the package simplejpeg is not installed.
    """
    gray = picture.shape[2] == 1
    colors = {"colorspace": "GRAY", "colorsubsampling": "Gray"} if gray else {"colorsubsampling": "444"}
    return bytes(simplejpeg().encode_jpeg(picture, quality=quality, **colors))


def each(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result | DecodeError]:
    """Return the result of `work` for each item, or the DecodeError that it raised.

    The threads end with the call, so that a fork meets none.
    """

    def attempt(item: Item) -> Result | DecodeError:
        try:
            return work(item)
        except DecodeError as e:
            return e

    if len(items) < 2 or threads < 2:
        return [attempt(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        try:
            futures = [pool.submit(attempt, item) for item in items]
        except RuntimeError:  # the interpreter is shutting down: no more threads
            return [attempt(item) for item in items]
        return [future.result() for future in futures]


def read_jpeg_header(file: bytes) -> ImageHeader:
    """Return the header of a JPEG file, after a check of its format and its number of scans. Raises DecodeError."""
    header = read_header(file)
    if header.format != "jpeg":
        raise DecodeError(f"not a JPEG image but {header.format.upper()}")
    data = np.frombuffer(file, np.uint8)
    scans = np.count_nonzero((data[:-1] == 0xFF) & (data[1:] == 0xDA))  # bytes.count takes seven times as long
    if scans > SCAN_LIMIT:
        raise DecodeError(f"a JPEG may have {SCAN_LIMIT} scans, and this one has {scans}")
    return header


def looks_cut(file: bytes) -> bool:
    """Return whether no end-of-image marker follows the last start of a scan.

    Data that is appended to a file may look like either marker.
    """
    return file.rfind(b"\xff\xd9") < file.rfind(b"\xff\xda")


def check_whole(file: bytes) -> ImageHeader:
    """Return the header of a file that libjpeg-turbo reads to its end without a warning. Raises DecodeError.

    The file is decoded at an eighth of its size, which reads all codes and does little else.
    """
    header = read_jpeg_header(file)
    _turbo(file, "CMYK" if header.components == 4 else "GRAY", min_height=1, min_width=1)
    return header


def place(image: Picture, header: ImageHeader, allocate: Allocate) -> Picture:
    """Copy `image`, which is oriented as stored, upright into memory from `allocate`."""
    placed = allocate(image.size).reshape(header.shape)
    placed[...] = upright(image, header.orientation)
    return placed


def _turbo(file: bytes, colorspace: str, **options: Any) -> Picture:
    """Return the picture as stored, decoded by libjpeg-turbo; its warnings are errors here."""
    try:
        return simplejpeg().decode_jpeg(file, colorspace, strict=True, **options)  # type: ignore[no-any-return]
    except ValueError as e:
        if looks_cut(file):
            raise DecodeError(f"truncated JPEG: no end-of-image marker after {len(file)} bytes") from e
        if "subsampling" in str(e):
            raise DecodeError(
                "unsupported: JPEG with chroma subsampling other than 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1"
            ) from e
        raise DecodeError(f"corrupt JPEG of {len(file)} bytes: {str(e).removeprefix('Corrupt JPEG data: ')}") from e


def _decode(allocate: Allocate, file: bytes) -> Picture:
    header = read_jpeg_header(file)
    if header.components == 4:
        return place(_rgb_of_cmyk(_turbo(file, "CMYK")), header, allocate)
    colorspace = "GRAY" if header.components == 1 else "RGB"
    if header.orientation > 1:
        return place(_turbo(file, colorspace), header, allocate)
    buffer = allocate(header.width * header.height * header.components)
    _turbo(file, colorspace, buffer=buffer)
    return buffer.reshape(header.shape)


def _rgb_of_cmyk(cmyk: Picture) -> Picture:
    """Return the RGB of inverted CMYK (255: no ink), as in JPEG files: color * black / 255, rounded as Pillow does."""
    black = cmyk[:, :, 3:].astype(np.uint16)
    ink = (255 - cmyk[:, :, :3]) * black + 128
    return (black - ((ink + (ink >> 8)) >> 8)).astype(np.uint8)
