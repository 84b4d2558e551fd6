"""JPEG files to arrays: with DALI on a GPU, with libjpeg-turbo on the host, where it takes half as long as DALI.

On the host, DALI uses libjpeg-turbo too, with the accurate DCT and smooth chroma upsampling, and returns the same
bytes. Three rules make the decoders agree on the rest: orientation is applied by this package, CMYK is always decoded
by simplejpeg, and the strict mode of libjpeg-turbo decides which files are corrupt (DALI's decoder fills gaps with gray
and reports nothing). On a GPU, DALI uses nvJPEG, whose results differ slightly: see DaliDecoder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from lumatile_kernels.backend import Allocate, allocate_array
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.decode.dali_jpeg import DaliDecoder
from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.turbo_jpeg import Picture, TurboDecoder
from lumatile_kernels.device import Device

__all__ = ["DaliDecoder", "JpegDecoder", "Picture", "TurboDecoder", "select_jpeg_decoder"]

log = logging.getLogger(__name__)


class JpegDecoder(Protocol):
    """Decodes JPEG files. All decoders on the host return the same bytes and reject the same files.

    Several threads may use a decoder at the same time, and so may forked children.
    """

    @property
    def name(self) -> str:
        """The library, with its version, that decodes the files it supports."""
        ...

    def decode(
        self, files: Sequence[bytes], *, allocate: Allocate = allocate_array
    ) -> Sequence[Picture | DeviceArray | DecodeError]:
        """Decode files.

        Args:
            files: the contents of the files.
            allocate: provides the memory of pictures on the host; called from several threads at the same time. A 4K
                picture takes twice as long in fresh memory as in memory that was used before.

        Returns:
            One result per file, in order: the picture, with its EXIF orientation applied, or the reason why there is
            none. Pictures are (h, w, 1) or (h, w, 3) uint8, of the shape `ImageHeader.shape`; on a device only if the
            decoder was given one. CMYK and YCCK become RGB by Pillow's formula.
        """
        ...

    def decoded_by(self, picture: Picture | DeviceArray | DecodeError) -> str:
        """Return the library, with its version, that made a result, as it is stored with the frame.

        Args:
            picture: a result of `decode`.

        Returns:
            The name and version of the library.
        """
        ...


def select_jpeg_decoder(name: str = "auto", device: Device | None = None, *, threads: int | None = None) -> JpegDecoder:
    """Return the decoder called `name`.

    Args:
        name: "turbo" (libjpeg-turbo), "dali", or "auto": DALI if there is a `device` and DALI can decode there, else
            libjpeg-turbo; the choice is logged at INFO.
        device: the GPU on which DALI decodes and leaves the pictures; None: the host.
        threads: the number of files that libjpeg-turbo decodes at the same time; None: one per core, at most 4.

    Returns:
        The decoder.

    Raises:
        ValueError: `name` is another name.
        DecoderUnavailableError: The decoder cannot run on this machine.
    """
    if name == "turbo":
        return TurboDecoder(threads)
    if name == "dali":
        return DaliDecoder() if device is None else DaliDecoder("mixed", on=device)
    if name != "auto":
        raise ValueError(f"JPEG decoder must be 'auto', 'dali' or 'turbo', not {name!r}")
    chosen = _first_that_works(device, threads)
    log.info("JPEG decoder: %s", chosen.name)
    return chosen


def _first_that_works(device: Device | None, threads: int | None) -> JpegDecoder:
    if device is not None:
        try:
            return DaliDecoder("mixed", on=device)
        except DecoderUnavailableError as e:
            log.info("JPEG files are not decoded on %s: %s", device.name, e)
    return TurboDecoder(threads)
