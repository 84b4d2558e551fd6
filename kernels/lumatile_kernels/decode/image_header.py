"""The headers of JPEG and PNG files, read without decoding the files.

JPEG: ITU-T T.81 annex B. PNG: W3C Portable Network Graphics (third edition), sections 5 and 11.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lumatile_kernels.decode.errors import DecodeError
from lumatile_kernels.decode.orientation import read_orientation

ImageFileFormat = Literal["jpeg", "png"]

PIXEL_LIMIT = 89_478_485
"""The most pixels that an image file may have by default: a quarter of a GiB of 24-bit pixels."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_UNSUPPORTED_FRAMES = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE, 0xDE), "hierarchical JPEG"),
    **dict.fromkeys((0xC9, 0xCA), "arithmetic-coded JPEG"),
    0xF7: "JPEG-LS",
}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """The header of an image file."""

    format: ImageFileFormat
    width: int
    """The width in pixels, as stored: before the orientation is applied."""
    height: int
    """The height in pixels, as stored."""
    components: int
    """The number of components, as stored. JPEG: 1 gray, 3 color, 4 CMYK or YCCK. PNG: 1 gray, 2 gray and alpha,
    3 color, 4 color and alpha; a palette counts as color, and a transparent color as alpha."""
    bit_depth: int
    """The bits of a sample: 8 for JPEG; 1, 2, 4, 8 or 16 for PNG."""
    orientation: int
    """The EXIF orientation, 1 ... 8; 1 is upright."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The (height, width, channels) of the decoded, upright picture; it has 1, 3 or 4 channels."""
        height, width = (self.height, self.width) if self.orientation < 5 else (self.width, self.height)
        if self.format == "jpeg":
            return height, width, min(self.components, 3)
        return height, width, {2: 4}.get(self.components, self.components)

    @property
    def nbytes(self) -> int:
        """The size of the decoded picture in bytes, with samples of 8 bits."""
        height, width, channels = self.shape
        return height * width * channels


def read_header(data: bytes) -> ImageHeader:
    """Read the header of a JPEG or PNG file; the content tells which of them it is.

    Args:
        data: the content of the file.

    Returns:
        The header.

    Raises:
        DecodeError: The file is neither of them, or its header is truncated, corrupt or of a kind that is not decoded
            (12-bit, lossless, hierarchical or arithmetic-coded JPEG).
    """
    if data.startswith(b"\xff\xd8\xff") or data == b"\xff\xd8":
        return _read_jpeg(data)
    if data.startswith(PNG_SIGNATURE):
        return _read_png(data)
    raise DecodeError(f"not a JPEG or PNG image: {len(data)} bytes that start with {data[:8]!r}")


def check_pixel_limit(header: ImageHeader, limit: int = PIXEL_LIMIT) -> None:
    """Raise DecodeError if the image has more than `limit` pixels."""
    pixels = header.width * header.height
    if pixels > limit:
        raise DecodeError(
            f"an image file may have {limit} pixels, and this {header.format.upper()} has {pixels} "
            f"({header.width} x {header.height})"
        )


_MARKER_PREFIX = re.compile(rb"\xff+")  # any number of these bytes may precede the code of a marker


def _read_jpeg(data: bytes) -> ImageHeader:
    frame: tuple[int, int, int] | None = None  # height, width, components
    exif: bytes | None = None
    for code, at, segment in jpeg_segments(data):
        if code in _UNSUPPORTED_FRAMES:
            raise DecodeError(f"unsupported: {_UNSUPPORTED_FRAMES[code]} (baseline and progressive JPEG are read)")
        if code in (0xC0, 0xC1, 0xC2):
            if frame is not None:
                raise DecodeError(f"corrupt JPEG: a second frame header at byte {at}")
            frame = _read_frame(segment)
        elif code == 0xE1 and exif is None and segment.startswith(b"Exif\0\0"):
            exif = segment[6:]
    if frame is None:
        raise DecodeError("corrupt JPEG: picture data without a frame header before it")
    height, width, components = frame
    return ImageHeader(
        format="jpeg",
        width=width,
        height=height,
        components=components,
        bit_depth=8,
        orientation=read_orientation(exif or b""),
    )


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the marker code, the byte offset of the length and the body of each segment before the first scan.

    Raises DecodeError.
    """
    truncated = DecodeError(f"truncated JPEG: no picture data after {len(data)} bytes")
    at = 2
    while True:
        prefix = _MARKER_PREFIX.match(data, at)
        if prefix is None and at < len(data):
            raise DecodeError(f"corrupt JPEG: byte {at} should begin a marker and is 0x{data[at]:02x}")
        if prefix is None or prefix.end() == len(data):
            raise truncated
        at = prefix.end()
        code = data[at]
        if code == 0xDA:
            return
        if code in (0x00, 0xD8, 0xD9):
            raise DecodeError(f"corrupt JPEG: marker 0x{code:02x} at byte {at}, before any picture data")
        at += 1
        if code == 0x01 or 0xD0 <= code <= 0xD7:  # a marker without a segment
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if at + max(2, length) > len(data):
            raise truncated
        if length < 2:
            raise DecodeError(f"corrupt JPEG: the segment at byte {at} has a length of {length}, under 2")
        yield code, at, data[at + 2 : at + length]
        at += length


def _read_frame(segment: bytes) -> tuple[int, int, int]:
    if len(segment) < 6:
        raise DecodeError(f"corrupt JPEG: a frame header of {len(segment)} bytes, under 6")
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    if precision != 8:
        raise DecodeError(f"unsupported: {precision}-bit JPEG (8 bits a sample are read)")
    if height == 0:
        raise DecodeError("unsupported: JPEG that states its height after the picture data (DNL)")
    if width == 0:
        raise DecodeError("corrupt JPEG: a width of 0")
    if components not in (1, 3, 4):
        raise DecodeError(f"unsupported: JPEG of {components} components (1, 3 and 4 are read)")
    if len(segment) != 6 + 3 * components:
        raise DecodeError(f"corrupt JPEG: a frame header of {len(segment)} bytes for {components} components")
    return height, width, components


@dataclass(frozen=True, kw_only=True)
class PngChunk:
    """A chunk of a PNG file."""

    kind: bytes
    """The type, four letters."""
    at: int
    """The byte offset in the file."""
    body: memoryview
    crc: int
    """The checksum, as stored."""

    def check_crc(self) -> None:
        """Raise DecodeError if the stored checksum is not that of type and body."""
        crc = zlib.crc32(self.body, zlib.crc32(self.kind))
        if crc != self.crc:
            raise DecodeError(
                f"corrupt PNG: chunk {self.kind!r} at byte {self.at} has the checksum {crc:08x}, stored {self.crc:08x}"
            )


def png_chunks(data: bytes) -> Iterator[PngChunk]:
    """Yield the chunks of a PNG file up to IEND; bytes after it are not read.

    Raises DecodeError if the file ends early.
    """
    view = memoryview(data)
    at = len(PNG_SIGNATURE)
    while True:
        if at + 8 > len(data):
            raise DecodeError(f"truncated PNG: no IEND chunk after {len(data)} bytes")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise DecodeError(
                f"truncated PNG: chunk {kind!r} at byte {at} ends at byte {end}, the file at byte {len(data)}"
            )
        yield PngChunk(kind=kind, at=at, body=view[at + 8 : end - 4], crc=int.from_bytes(view[end - 4 : end], "big"))
        if kind == b"IEND":
            return
        at = end


def _read_png(data: bytes) -> ImageHeader:
    chunks = png_chunks(data)
    first = next(chunks)
    if first.kind != b"IHDR" or len(first.body) != 13:
        raise DecodeError(f"corrupt PNG: the first chunk is {first.kind!r} of {len(first.body)} bytes, not IHDR of 13")
    first.check_crc()
    width, height, bit_depth, color, compression, filtering, interlace = struct.unpack(">IIBBBBB", first.body)
    if not (1 <= width < 1 << 31 and 1 <= height < 1 << 31):
        raise DecodeError(f"corrupt PNG: {width} x {height} pixels")
    if bit_depth not in _PNG_BIT_DEPTHS.get(color, ()):
        raise DecodeError(f"corrupt PNG: color type {color} with {bit_depth} bits a sample")
    if compression or filtering or interlace > 1:
        raise DecodeError(f"unsupported: PNG compression {compression}, filter {filtering}, interlace {interlace}")
    transparent, orientation = False, 1
    for chunk in chunks:
        if chunk.kind == b"tRNS":
            transparent = color in (0, 2, 3)
        elif chunk.kind == b"eXIf":
            orientation = read_orientation(bytes(chunk.body))
        elif chunk.kind in (b"IDAT", b"IEND"):
            break
    return ImageHeader(
        format="png",
        width=width,
        height=height,
        components=_PNG_CHANNELS[color] + transparent,
        bit_depth=bit_depth,
        orientation=orientation,
    )
