"""Decoding the image files among logged values."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.values import LoggedValue
from lumatile_kernels.backend import OffHost
from lumatile_kernels.decode.errors import DecodeError
from lumatile_kernels.decode.image_header import check_pixel_limit, read_header
from lumatile_kernels.decode.jpeg import JpegDecoder, select_jpeg_decoder
from lumatile_kernels.device import Device


@dataclass(frozen=True, kw_only=True, eq=False)
class DecodedValue:
    """A logged value whose image file, if it is one, has been decoded."""

    value: LoggedValue
    array: NDArray[Any] | OffHost | None = None
    """The array of `value`, or the pixels of its image file: (h, w, 1) or (h, w, 3) uint8, on the GPU that decoded."""
    decoder: str | None = None
    """Name and version of the decoder of the image file."""
    error: str | None = None
    """Why the value has no array: it was logged wrongly, or its file could not be decoded."""

    @property
    def nbytes(self) -> int:
        """The memory that the value and its pixels hold, in bytes."""
        decoded = self.array if self.decoder else None
        return self.value.nbytes + (0 if decoded is None else math.prod(decoded.shape) * decoded.dtype.itemsize)


class ValueDecoder:
    """Decodes the JPEG files among values, several files together. May be used from several threads."""

    def __init__(self, *, pixel_limit: int, device: Device | None, threads: int | None) -> None:
        """Prepare to decode; the decoder itself is chosen at the first file.

        `pixel_limit`: the most pixels that a file may have. `device`: the GPU that makes the tiles, if there is one.
        `threads`: the number of threads that decode; None: one for each core.
        """
        self._pixel_limit = pixel_limit
        self._device = device
        self._threads = threads
        self._lock = threading.Lock()
        """Held while files are decoded: the decoder is for one thread at a time."""
        self._decoder: JpegDecoder | None = None

    def decode(self, values: Sequence[LoggedValue]) -> list[DecodedValue]:
        """Decode the JPEG files among `values`; a bad file gets an error and does not affect the others."""
        results = [DecodedValue(value=value, array=value.array, error=value.error) for value in values]
        files: list[tuple[int, bytes]] = []
        for i, value in enumerate(values):
            if value.encoded is not None and value.error is None:
                try:
                    check_pixel_limit(read_header(value.encoded), self._pixel_limit)
                except DecodeError as e:
                    results[i] = DecodedValue(value=value, error=str(e))
                else:
                    files.append((i, value.encoded))
        if files:
            with self._lock:
                decoder = self._decoder
                if decoder is None:
                    decoder = self._decoder = select_jpeg_decoder("auto", self._device, threads=self._threads)
                images = decoder.decode([file for _, file in files], allocate=POOL.take)
            for (i, _), image in zip(files, images, strict=True):
                if isinstance(image, DecodeError):
                    results[i] = DecodedValue(value=values[i], error=str(image), decoder=decoder.name)
                else:
                    results[i] = DecodedValue(value=values[i], array=image, decoder=decoder.decoded_by(image))
        return results
