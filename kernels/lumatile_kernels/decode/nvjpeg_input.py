"""Changes to JPEG files that nvImageCodec, which reads JPEG headers for DALI, would misread."""

from __future__ import annotations

import struct

from lumatile_kernels.decode.image_header import ImageHeader, jpeg_segments


def nvjpeg_input(file: bytes, header: ImageHeader) -> bytes | None:
    """Return `file` with its orientation in one plain EXIF block, or in none; None if its three components are RGB.

    nvImageCodec always reads three components as YCbCr, and reads EXIF blocks differently from `read_header`: it
    ignores the type of an entry, and one malformed entry hides the others. Two blocks that disagree make DALI 2.4
    corrupt its memory.
    """
    kept = [file[:2]]
    if header.orientation > 1:
        kept.append(_exif(header.orientation))
    start = 2
    for code, at, segment in jpeg_segments(file):
        if header.components == 3 and _says_rgb(code, segment):
            return None
        if code == 0xE1 and segment.startswith(b"Exif\0\0"):
            kept.append(file[start : at - 2])
            start = at + 2 + len(segment)
    return b"".join([*kept, file[start:]]) if start > 2 or header.orientation > 1 else file


def _says_rgb(code: int, segment: bytes) -> bool:
    """Return whether this segment makes libjpeg read the components as RGB instead of YCbCr."""
    if code == 0xEE:
        return segment.startswith(b"Adobe") and segment[11:12] == b"\0"
    return code in (0xC0, 0xC1, 0xC2) and segment[6::3] == b"RGB"


def _exif(orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block
