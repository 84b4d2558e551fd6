"""JPEG files to arrays: through DALI where it is installed, else through a libjpeg-turbo wheel (simplejpeg).

Both are libjpeg-turbo inside, with the accurate DCT and smooth chroma upsampling, and give the same bytes. What makes
them agree on the rest: orientation is applied here, CMYK always goes through simplejpeg, and the strict mode of
libjpeg-turbo decides what is corrupt (DALI's decoder fills gaps with gray and says nothing). So nothing reaches DALI
that libjpeg-turbo has not walked through without a complaint.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, allocate_array
from lumatile_kernels.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.fork import hold_across_fork
from lumatile_kernels.image_header import ImageHeader, read_header
from lumatile_kernels.orientation import upright

log = logging.getLogger(__name__)

SCAN_LIMIT = 500
"""Scans a JPEG may have: each costs a pass over the whole picture, however few bytes it takes in the file."""

Picture = NDArray[np.uint8]
"""(h, w, 1) gray or (h, w, 3) RGB, sRGB gamma."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class JpegDecoder(Protocol):
    """Decodes JPEG files. All decoders on a CPU give the same bytes and refuse the same files.

    A decoder may be used by several threads, and in forked children.
    """

    @property
    def name(self) -> str:
        """Library and version, as stored with the frame."""
        ...

    def decode(self, files: Sequence[bytes], *, allocate: Allocate = allocate_array) -> list[Picture | DecodeError]:
        """One result a file, in order: the picture, EXIF orientation applied, or why there is none.

        CMYK and YCCK become RGB by Pillow's formula. `allocate` gives the memory of the pictures, and must be safe to
        call from several threads; a 4K picture in fresh memory takes twice as long as in warm.
        """
        ...


class TurboDecoder:
    """libjpeg-turbo through the simplejpeg wheel."""

    def __init__(self, threads: int | None = None) -> None:
        """`threads`: files decoded at once; by default one a core, at most 4.

        Raises DecoderUnavailableError without simplejpeg.
        """
        self._threads = threads or _default_threads()
        self.name = f"simplejpeg {_simplejpeg().__version__}"

    def decode(self, files: Sequence[bytes], *, allocate: Allocate = allocate_array) -> list[Picture | DecodeError]:
        """See JpegDecoder."""
        return _each(partial(_turbo_decode, allocate), files, self._threads)


class DaliDecoder:
    """NVIDIA DALI's CPU decoder; needs no GPU. Pipelines stay warm between calls."""

    def __init__(self, threads: int | None = None) -> None:
        """`threads`: files decoded at once; by default one a core, at most 4.

        Raises DecoderUnavailableError where DALI or simplejpeg is missing, or DALI cannot run.
        """
        with _PIPELINES_IN_USE:  # a child forked during an import could never import it
            one_pixel = _simplejpeg().encode_jpeg(np.zeros((1, 1, 3), np.uint8))
        self._threads = threads or _default_threads()
        self._pipelines: dict[int, Any] = {}
        """By number of components; made on first use."""
        self._ended = False
        _DALI_DECODERS.add(self)
        try:
            with _PIPELINES_IN_USE:
                import nvidia.dali
            atexit.register(self._end)  # after DALI's own, so it runs before: DALI wants all pipelines gone
            self._run([one_pixel], [_read_header(one_pixel)], allocate_array)
        except (ImportError, OSError, RuntimeError) as e:
            raise DecoderUnavailableError(f"JPEG decoder 'dali' needs NVIDIA DALI: {e}") from e
        self.name = f"dali-cpu {nvidia.dali.__version__}"

    def decode(self, files: Sequence[bytes], *, allocate: Allocate = allocate_array) -> list[Picture | DecodeError]:
        """See JpegDecoder."""
        results: list[Any] = [*_each(_check, files, self._threads)]
        for components in (1, 3, 4):
            rows = [i for i, r in enumerate(results) if isinstance(r, ImageHeader) and r.components == components]
            for start in range(0, len(rows), self._threads):
                batch = rows[start : start + self._threads]
                pictures = self._decode_batch([files[i] for i in batch], [results[i] for i in batch], allocate)
                for i, picture in zip(batch, pictures, strict=True):
                    results[i] = picture
        return results

    def _decode_batch(
        self, files: Sequence[bytes], headers: Sequence[ImageHeader], allocate: Allocate
    ) -> Sequence[Picture | DecodeError]:
        """Files of one number of components, at most as many as threads."""
        if headers[0].components < 4:
            try:
                return self._run(files, headers, allocate)
            except (RuntimeError, AttributeError) as e:
                # one file that DALI's parser refuses fails its whole batch; at exit DALI ends before the last file
                reason = " ".join(str(e).rpartition("encountered:")[2].split())
                log.info("DALI failed on %d JPEG files, simplejpeg decodes them: %s", len(files), reason)
        return _each(partial(_turbo_decode, allocate), files, self._threads)

    def _run(self, files: Sequence[bytes], headers: Sequence[ImageHeader], allocate: Allocate) -> list[Picture]:
        """Gray or color files through DALI. Raises RuntimeError."""
        components = headers[0].components
        with _PIPELINES_IN_USE:
            if self._ended:
                raise RuntimeError("error encountered: the process ends")
            # taken out meanwhile: DALI calls a pipeline invalid after an error
            pipeline = self._pipelines.pop(components, None) or self._build_pipeline(components)
            pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
            (tensors,) = pipeline.run()
            pictures = [_place(np.asarray(tensors[i]), header, allocate) for i, header in enumerate(headers)]
            self._pipelines[components] = pipeline
        return pictures

    def _end(self) -> None:
        with _PIPELINES_IN_USE:
            self._ended = True
            self._pipelines.clear()

    def _build_pipeline(self, components: int) -> Any:
        from nvidia.dali import Pipeline, fn, types

        pipeline = Pipeline(batch_size=self._threads, num_threads=self._threads, device_id=None, prefetch_queue_depth=1)
        with pipeline:
            pictures = fn.decoders.image(
                fn.external_source(name="files", device="cpu"),
                device="cpu",
                output_type=types.GRAY if components == 1 else types.RGB,  # ANY_DATA kills the process on gray
                adjust_orientation=False,
                use_fast_idct=False,
            )
            pipeline.set_outputs(pictures)
        pipeline.build()
        return pipeline


_PIPELINES_IN_USE = threading.Lock()
"""Held while DALI is imported and while a pipeline runs, and during a fork."""

_DALI_DECODERS: weakref.WeakSet[DaliDecoder] = weakref.WeakSet()


def _close_pipelines() -> None:
    """Before a fork: a child that inherits a pipeline without its threads waits for them forever when it exits."""
    for decoder in list(_DALI_DECODERS):
        decoder._pipelines.clear()  # noqa: SLF001


hold_across_fork(_PIPELINES_IN_USE, _close_pipelines)


def select_jpeg_decoder(name: str = "auto") -> JpegDecoder:
    """The decoder called `name`: "auto", "dali" or "turbo".

    "auto" takes DALI where it is installed and works, else libjpeg-turbo, and says at INFO which.

    Raises ValueError for another name and DecoderUnavailableError for one that cannot run here.
    """
    if name == "turbo":
        return TurboDecoder()
    if name == "dali":
        return DaliDecoder()
    if name != "auto":
        raise ValueError(f"JPEG decoder must be 'auto', 'dali' or 'turbo', not {name!r}")
    chosen: JpegDecoder
    try:
        chosen = DaliDecoder()
    except DecoderUnavailableError as e:
        log.debug("%s", e)
        chosen = TurboDecoder()
    log.info("JPEG decoder: %s", chosen.name)
    return chosen


def _default_threads() -> int:
    return min(4, os.cpu_count() or 1)


def _each(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result | DecodeError]:
    """`work` of each item, or the DecodeError it raised. The threads end with the call, so a fork meets none."""

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


def _simplejpeg() -> ModuleType:
    try:
        import simplejpeg
    except ImportError as e:
        raise DecoderUnavailableError(f"JPEG needs the package simplejpeg (pip install 'lumatile[local]'): {e}") from e
    return simplejpeg  # type: ignore[no-any-return]


def _read_header(file: bytes) -> ImageHeader:
    header = read_header(file)
    if header.format != "jpeg":
        raise DecodeError(f"not a JPEG image but {header.format.upper()}")
    scans = file.count(b"\xff\xda")
    if scans > SCAN_LIMIT:
        raise DecodeError(f"a JPEG may have {SCAN_LIMIT} scans, and this one has {scans}")
    return header


def _turbo(file: bytes, colorspace: str, **options: Any) -> Picture:
    """The stored picture by libjpeg-turbo; whatever it warns of is an error."""
    try:
        return _simplejpeg().decode_jpeg(file, colorspace, strict=True, **options)  # type: ignore[no-any-return]
    except ValueError as e:
        if file.rfind(b"\xff\xd9") < file.rfind(b"\xff\xda"):  # no end of image after the last start of a scan
            raise DecodeError(f"truncated JPEG: no end-of-image marker after {len(file)} bytes") from e
        if "subsampling" in str(e):
            raise DecodeError(
                "unsupported: JPEG with chroma subsampling other than 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1"
            ) from e
        raise DecodeError(f"corrupt JPEG of {len(file)} bytes: {str(e).removeprefix('Corrupt JPEG data: ')}") from e


def _check(file: bytes) -> ImageHeader:
    """The header of a file that is whole: at an eighth of the size all codes are read, and little else is done."""
    header = _read_header(file)
    _turbo(file, "CMYK" if header.components == 4 else "GRAY", min_height=1, min_width=1)
    return header


def _turbo_decode(allocate: Allocate, file: bytes) -> Picture:
    header = _read_header(file)
    if header.components == 4:
        return _place(_rgb_of_cmyk(_turbo(file, "CMYK")), header, allocate)
    colorspace = "GRAY" if header.components == 1 else "RGB"
    if header.orientation > 1:
        return _place(_turbo(file, colorspace), header, allocate)
    buffer = allocate(header.width * header.height * header.components)
    _turbo(file, colorspace, buffer=buffer)
    return buffer.reshape(header.shape)


def _place(image: Picture, header: ImageHeader, allocate: Allocate) -> Picture:
    """`image`, upright, in memory from `allocate`."""
    placed = allocate(image.size).reshape(header.shape)
    placed[...] = upright(image, header.orientation)
    return placed


def _rgb_of_cmyk(cmyk: Picture) -> Picture:
    """RGB of inverted CMYK (255: no ink), as JPEG files hold it: color * black / 255, rounded as Pillow does."""
    black = cmyk[:, :, 3:].astype(np.uint16)
    ink = (255 - cmyk[:, :, :3]) * black + 128
    return (black - ((ink + (ink >> 8)) >> 8)).astype(np.uint8)
