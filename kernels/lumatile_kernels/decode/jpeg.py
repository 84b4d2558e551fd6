"""JPEG files to arrays: through DALI on a GPU, through libjpeg-turbo on the host, where it takes half as long as DALI.

On the host DALI is libjpeg-turbo inside too, with the accurate DCT and smooth chroma upsampling, and gives the same
bytes. What makes them agree on the rest: orientation is applied here, CMYK always goes through simplejpeg, and the
strict mode of libjpeg-turbo decides what is corrupt (DALI's decoder fills gaps with gray and says nothing). On a GPU it
is nvJPEG, which differs by a little: see DaliDecoder.
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
    """Decodes JPEG files. All decoders on the host give the same bytes and refuse the same files.

    A decoder may be used by several threads, and in forked children.
    """

    @property
    def name(self) -> str:
        """Library and version of what decodes the files it can."""
        ...

    def decode(
        self, files: Sequence[bytes], *, allocate: Allocate = allocate_array
    ) -> Sequence[Picture | DeviceArray | DecodeError]:
        """One result a file, in order: the picture, EXIF orientation applied, or why there is none.

        Pictures are (h, w, 1) or (h, w, 3) uint8, as `ImageHeader.shape` says, on a device only where the decoder was
        given one. CMYK and YCCK become RGB by Pillow's formula. `allocate` gives the memory of pictures on the host,
        and must be safe to call from several threads; a 4K picture in fresh memory takes twice as long as in warm.
        """
        ...

    def decoded_by(self, picture: Picture | DeviceArray | DecodeError) -> str:
        """Library and version of what gave this result of `decode`, as stored with the frame."""
        ...


def select_jpeg_decoder(name: str = "auto", device: Device | None = None, *, threads: int | None = None) -> JpegDecoder:
    """The decoder called `name`: "auto", "dali" or "turbo".

    "auto" takes libjpeg-turbo, or with a `device` DALI, if it can decode there; it says at INFO which. With a `device`
    DALI leaves the pictures there. `threads`: files that libjpeg-turbo decodes at once; None: one a core, at most 4.

    Raises ValueError for another name and DecoderUnavailableError for one that cannot run here.
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
