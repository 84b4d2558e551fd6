"""Frames as files that other tools read."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import LumatileError, SourceNotKeptError
from lumatile.read.frame import Frame
from lumatile.values import DATA_KINDS, Kind
from lumatile_kernels.decode.errors import DecoderUnavailableError
from lumatile_kernels.decode.png import encode_png
from lumatile_kernels.tables import encode_srgb16
from lumatile_kernels.threads import usable_cores
from lumatile_service.export.ply import encode_ply
from lumatile_service.export.tally import ExportTally

Floats = Literal["png", "npy"]
"""The file format of float images and float depth."""

MILLIMETRES = 1000.0
"""The units per metre of float depth in a 16-bit PNG."""


THREADS = usable_cores(8)
"""The number of threads that read and encode frames; at most one frame more is in memory."""


class EmptyError(LumatileError):
    """A picture has no pixels."""


@dataclass(frozen=True, kw_only=True)
class FrameFile:
    """The file that a frame becomes."""

    suffix: str
    """.jpg, .png, .npy or .ply."""
    content: bytes
    """The content of the file."""
    meter: float | None = None
    """The units per metre of the file's values; None: it is not depth."""
    lossy: str | None = None
    """The part of the frame that is lost; None: nothing."""


def frame_files(
    frames: Iterable[Frame], tally: ExportTally, *, kinds: Collection[Kind] = DATA_KINDS, floats: Floats = "png"
) -> Iterator[tuple[Frame, FrameFile]]:
    """Yield each frame of one of `kinds` with its file; frames that cannot be written are counted in `tally`.

    Raises LumatileError if no installed package writes PNG.
    """
    with ThreadPoolExecutor(THREADS, "lumatile-export") as pool:
        for frame, future in _ahead(pool, partial(frame_file, floats=floats), _with_content(frames, tally, kinds)):
            try:
                file = future.result()
            except EmptyError as e:
                tally.left_out(str(e), error=False)
            except DecoderUnavailableError as e:
                raise LumatileError(str(e)) from e
            except Exception as e:  # noqa: BLE001 - one frame must not end the export
                tally.left_out(f"{type(e).__name__}: {e}", error=True)
            else:
                yield frame, file


def _with_content(frames: Iterable[Frame], tally: ExportTally, kinds: Collection[Kind]) -> Iterator[Frame]:
    """Yield the frames of one of `kinds` that are not error rows, and count the others."""
    for frame in frames:
        if frame.error is not None:
            tally.left_out(f"an error was logged: {frame.error}", error=True)
        elif frame.kind not in kinds:
            tally.left_out(f"there is no place for values of kind {frame.kind!r}", error=False)
        else:
            yield frame


def _ahead(
    pool: Executor, work: Callable[[Frame], FrameFile], frames: Iterable[Frame]
) -> Iterator[tuple[Frame, Future[FrameFile]]]:
    """Yield each frame with the future of its file, in order; as many are started as there are threads."""
    begun: deque[tuple[Frame, Future[FrameFile]]] = deque()
    for frame in frames:
        begun.append((frame, pool.submit(work, frame)))
        if len(begun) > THREADS:
            yield begun.popleft()
    while begun:
        yield begun.popleft()


def frame_file(frame: Frame, floats: Floats = "png") -> FrameFile:
    """Return the file of an image, depth image, segmentation or point cloud. All checksums are verified.

    - JPEG files stay as they are.
    - uint8 and uint16 images and depth: PNG of the same bit depth, exact.
    - Class ids: gray PNG of 8 or 16 bits, exact.
    - Points: PLY.
    - Floats with `floats="npy"`: numpy's format, exact.
    - Floats with `floats="png"`: PNG of 16 bits. Images are linear light, clamped to 0 to 1 and encoded to sRGB
      (IEC 61966-2-1). Depth is in millimetres; values that round to 0 or are over 65.535 m become 0, invalid.
    - If the source was not kept: the pixels of the tiles.

    Raises EmptyError, CorruptStoreError.
    """
    frame = frame.checked()
    if frame.kind == "points":
        cloud = frame.points()
        named = cloud.labels is not None or cloud.identifiers is not None
        lossy = "PLY has no place for labels and identifiers" if named else None
        return FrameFile(suffix=".ply", content=encode_ply(cloud), lossy=lossy)
    if frame.shape is None or 0 in frame.shape:
        raise EmptyError(f"a PNG file has no place for an empty {frame.kind}")
    if frame.kind == "segmentation":
        return FrameFile(suffix=".png", content=encode_png(frame.ids()))
    return _image(frame, frame.shape, floats) if frame.kind == "image" else _depth(frame, floats)


def _image(frame: Frame, shape: tuple[int, ...], floats: Floats) -> FrameFile:
    channels = shape[2]
    try:
        source = frame.source()
    except SourceNotKeptError:
        tiles = frame.to_rgba8()[..., :channels]
        return FrameFile(suffix=".png", content=encode_png(tiles), lossy="the source was not kept: tiles, in 8 bits")
    if isinstance(source, bytes):
        return FrameFile(suffix=".jpg", content=source)
    if source.dtype.kind != "f":
        return FrameFile(suffix=".png", content=encode_png(source.reshape(shape)))
    if floats == "npy":
        return _npy(source)
    return FrameFile(suffix=".png", content=encode_png(_srgb16(source.reshape(shape))), lossy="float images: 16 bits")


def _depth(frame: Frame, floats: Floats) -> FrameFile:
    lossy = None
    try:
        source = frame.source()
        meter = frame.meter
    except SourceNotKeptError:
        source, meter, lossy = frame.depth(), 1.0, "the source was not kept: the tiles' metres"
    if source.dtype.kind != "f":
        return FrameFile(suffix=".png", content=encode_png(source), meter=meter)
    if floats == "npy":
        return _npy(source, meter, lossy)
    with np.errstate(over="ignore"):
        millimetres = np.rint(frame.depth() * np.float32(MILLIMETRES))
    content = encode_png(np.where(millimetres <= 65535, millimetres, 0).astype(np.uint16))
    return FrameFile(suffix=".png", content=content, meter=MILLIMETRES, lossy="float depth: whole millimetres")


def _npy(array: NDArray[Any], meter: float | None = None, lossy: str | None = None) -> FrameFile:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return FrameFile(suffix=".npy", content=content.getvalue(), meter=meter, lossy=lossy)


def _srgb16(image: NDArray[Any]) -> NDArray[np.uint16]:
    """Convert (h, w, c) floats, linear light with linear alpha, to 16-bit sRGB codes with linear alpha."""
    with np.errstate(over="ignore"):  # to infinity, which is clamped
        linear = image.astype(np.float32)
    codes = encode_srgb16(linear)
    alpha = np.clip(np.nan_to_num(linear[..., 3:], nan=0), 0, 1)
    codes[..., 3:] = np.rint(alpha * np.float32(65535))
    return codes
