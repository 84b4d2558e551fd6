"""The frames of a video file, decoded by FFmpeg through PyAV, as arrays of colors."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lumatile_service.batch.formats.video.colors import FULL, LIMITED, BrokenVideoError, FrameColors

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,ivf,mpeg,mpegts,mpegvideo,m4v,h264,hevc,obu,mxf,ogg,nut,dv"
    ",yuv4mpegpipe"
)
"""FFmpeg's names of the containers that are read, without playlists, which name other files and URLs."""

BUFFER = 1 << 20
"""The number of bytes of a file that are read at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrame:
    """One frame, upright."""

    pixels: NDArray[Any]
    """(h, w) gray, (h, w, 3) RGB or (h, w, 4) RGBA with straight alpha; uint8, or little-endian uint16 for more bits.

    0 ... 255 or 0 ... 65535, whatever the range in the file.
    """
    nanos: int | None
    """Nanoseconds since the first frame; None: the file has no time."""
    nbytes: int
    """The number of bytes of the file since the previous frame."""


def video_frames(file: Any, pixel_limit: int) -> Iterator[VideoFrame]:
    """Yield the frames of a video in a seekable file, in the order in which they are shown.

    Of several video streams, FFmpeg's best one is taken. Colors are converted as the stream says: matrix BT.601,
    BT.709, BT.2020 (not constant luminance), FCC or SMPTE 240M, limited or full range; for a stream without these see
    `FrameColors`. Chroma is interpolated bicubically. The transfer curve is not changed, PQ and HLG included. More than
    8 bits become 16. A display matrix turns and flips in steps of 90 degrees. Pixels that are not square, and
    interlaced lines, stay unchanged.

    Raises BrokenVideoError after the last frame before a damage, or for a frame of more than `pixel_limit` pixels;
    OSError. Of a stream with B-frames, the frames that the decoder still holds at the damage are lost: a few, and one
    for each core.
    """
    try:
        import av
    except ModuleNotFoundError as e:
        raise BrokenVideoError("video needs PyAV: install lumatile[batch]") from e
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "none", "max_pixels": str(pixel_limit)}
    try:
        declared = _declared_bytes(file.read(64))
        nbytes = file.seek(0, 2)
        truncated = declared is not None and declared > nbytes
        file.seek(0)
        with av.open(file, options=options, buffer_size=BUFFER, metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None:
                raise BrokenVideoError("there is no video in it")
            coder = stream.codec_context
            if coder is None:
                raise BrokenVideoError("FFmpeg has no decoder for its video")
            _check_pixels(coder.width, coder.height, pixel_limit)
            coder.options = {"max_pixels": str(pixel_limit)}
            coder.thread_type = "AUTO"
            yield from _Decoder(stream).frames(container.demux(stream), truncated)
    except av.FFmpegError as e:
        raise BrokenVideoError(f"the video is truncated, corrupt or none: {e.strerror}") from e
    if truncated:
        raise BrokenVideoError(f"the video is truncated: it has {nbytes} bytes, and should have {declared}")


class _Decoder:
    """Decodes one stream."""

    def __init__(self, stream: Any) -> None:
        import av.video.reformatter

        self._stream = stream
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._first: int | None = None
        """The time of the first frame, in units of the stream."""
        self._nbytes = 0

    def frames(self, packets: Iterator[Any], truncated: bool) -> Iterator[VideoFrame]:
        """Yield the frames of packets. `truncated`: the packets end too early."""
        coder = self._stream.codec_context
        for packet in packets:
            if packet.is_corrupt or (truncated and packet.size == 0 and packet.dts is None):  # cut off, or the end
                if coder.reorder_depth == 0:  # else frames between those that the decoder still has are missing
                    yield from self._converted(coder.decode(None))
                if packet.is_corrupt:
                    raise BrokenVideoError("the video is truncated or corrupt")
                return
            self._nbytes += packet.size
            yield from self._converted(packet.decode())

    def _converted(self, frames: Iterator[Any]) -> Iterator[VideoFrame]:
        for frame in frames:
            if frame.is_corrupt:
                raise BrokenVideoError("the video is corrupt")
            nbytes, self._nbytes = self._nbytes, 0
            yield VideoFrame(pixels=self._pixels(frame), nanos=self._nanos(frame), nbytes=nbytes)

    def _nanos(self, frame: Any) -> int | None:
        if frame.pts is None:
            return None
        if self._first is None:
            self._first = frame.pts
        base = self._stream.time_base
        ticks: int = frame.pts - self._first
        nanos: int = (2 * ticks * base.numerator * 10**9 + base.denominator) // (2 * base.denominator)  # the nearest
        return nanos

    def _pixels(self, frame: Any) -> NDArray[Any]:
        from av.video.reformatter import Colorspace, Interpolation

        source = FrameColors(frame)
        matrix = Colorspace[source.matrix]
        converted = self._reformatter.reformat(
            frame,
            format=source.target,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=LIMITED if source.limited and source.ycbcr else FULL,
            dst_color_range=FULL,
            interpolation=Interpolation.BICUBIC
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INT
            | Interpolation.BITEXACT,
        )
        pixels = source.widened(converted.to_ndarray())
        return turned(pixels, _display_matrix(frame))


def turned(pixels: NDArray[Any], matrix: tuple[int, ...]) -> NDArray[Any]:
    """Turn and flip a picture (h, w) or (h, w, c) as a display matrix says, to the nearest 90 degrees.

    `matrix`: a, b, c, d of its nine numbers. ISO/IEC 14496-12, 6.2.2: pixel (x, y) is shown at (a x + c y, b x + d y).
    """
    a, b, c, d = matrix
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels = pixels.swapaxes(0, 1)
        across, down = c, b
    if across < 0:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if down < 0 else pixels


def _display_matrix(frame: Any) -> tuple[int, ...]:
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    numbers = struct.unpack("=9i", bytes(data))
    return numbers[0], numbers[1], numbers[3], numbers[4]


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise BrokenVideoError(f"{width}x{height} pixels are more than the limit of {limit}")


def _declared_bytes(head: bytes) -> int | None:
    """Return the size that a file declares in its first bytes, if FFmpeg does not check it; None: it declares none.

    RIFF (AVI): the size of the first chunk; 0 or 0xFFFFFFFF in a file that was written to a pipe. Matroska (RFC 8794,
    9559): an EBML header, and the Segment's size.
    """
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:8], "little")
        return None if size in (0, 0xFFFFFFFF) else 8 + size
    at = 4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        header, at = _ebml_size(head, at)
        at += header or 0
        if head[at : at + 4] == b"\x18\x53\x80\x67":
            segment, at = _ebml_size(head, at + 4)
            return None if segment is None else at + segment
    return None


def _ebml_size(head: bytes, at: int) -> tuple[int | None, int]:
    """Return the size of an element (None: unknown), and where its data begins. Raises BrokenVideoError."""
    length = 9 - head[at].bit_length() if at < len(head) else 9
    if length > 8 or at + length > len(head):
        raise BrokenVideoError("the video is truncated, corrupt or none: an EBML header ends early")
    value = int.from_bytes(head[at : at + length], "big") - (1 << 7 * length)
    return (None if value == (1 << 7 * length) - 1 else value), at + length
