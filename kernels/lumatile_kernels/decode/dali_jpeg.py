"""JPEG files with NVIDIA DALI, and with libjpeg-turbo where DALI cannot decode them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lumatile_kernels.backend import Allocate, allocate_array
from lumatile_kernels.cuda.arrays import DeviceArray, current_device
from lumatile_kernels.decode.dali_pipelines import PIPELINES_IN_USE, DaliPipelines
from lumatile_kernels.decode.dali_places import GpuPlace, HostPlace, Place
from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import ImageHeader
from lumatile_kernels.decode.turbo_jpeg import Picture, TurboDecoder, each, read_jpeg_header, simplejpeg
from lumatile_kernels.device import Device, DeviceMemoryError
from lumatile_kernels.threads import usable_cores

log = logging.getLogger(__name__)

MOST_OFF = 4
"""The most by which an sRGB code of nvJPEG may differ from that of libjpeg-turbo."""

MEAN_OFF = 1.0
"""The most by which the codes of a picture may differ on average."""

FAILURES = (RuntimeError, MemoryError, ValueError, AttributeError)
"""The errors of DALI and `Device`: the same for a bad file, for lack of memory and for a lost device."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    row: int
    """The index of the file in the call."""
    file: bytes
    stream: bytes
    """The bytes that DALI reads instead of `file`."""
    header: ImageHeader


class DaliDecoder:
    """The decoder that uses NVIDIA DALI, in pipelines that stay ready between calls; see `JpegDecoder`.

    With the device "cpu" it needs no GPU, and returns the bytes of libjpeg-turbo for each file that libjpeg-turbo
    accepts.

    With "mixed" it decodes on a GPU with nvJPEG, which uses the GPU's JPEG hardware if there is any, and leaves the
    pictures there, each as a DeviceArray. nvJPEG has its own arithmetic: a code may differ from that of libjpeg-turbo
    by `MOST_OFF`, and by `MEAN_OFF` on average over a picture. NVIDIA's tests hold nvImageCodec to the first and DALI
    to the second limit; the tests of this package do not measure them yet. The header and the presence of an end are
    checked, but not the data between them: from a file that is damaged there, nvJPEG may make a picture where the other
    decoders report an error. nvJPEG also reads 4:1:0, which they do not.

    libjpeg-turbo decodes CMYK on the host for both devices. For the GPU it also decodes files that look cut off, files
    that nvJPEG rejects or would misread as YCbCr, files without room on the device, and all files in a forked child or
    after the device is lost. `decoded_by` tells which library decoded a picture.
    """

    def __init__(
        self,
        device: Literal["cpu", "mixed"] = "cpu",
        *,
        on: Device | None = None,
        threads: int | None = None,
        hw_decoder_load: float | None = None,
    ) -> None:
        """Build a pipeline and decode a file with it.

        Args:
            device: "cpu" to decode on the host, "mixed" to decode on a GPU.
            on: the GPU of "mixed"; None: the current device of the calling thread.
            threads: the threads of DALI; None: one per core, at most 4, with a GPU at most 8.
            hw_decoder_load: the share of a batch, 0 ... 1, that the GPU's JPEG hardware decodes, if there is any; None:
                DALI's default (0.65).

        Raises:
            ValueError: `device` or `hw_decoder_load` has another value.
            DecoderUnavailableError: DALI, simplejpeg or the GPU is missing, or DALI cannot run there.
        """
        if device not in ("cpu", "mixed"):
            raise ValueError(f"DALI's device must be 'cpu' or 'mixed', not {device!r}")
        if hw_decoder_load is not None and not 0 <= hw_decoder_load <= 1:
            raise ValueError(f"hw_decoder_load must be in 0 ... 1, not {hw_decoder_load!r}")
        with PIPELINES_IN_USE:  # a child that is forked during an import could never complete the import
            good = simplejpeg().encode_jpeg(np.zeros((16, 16, 3), np.uint8))
        self._good = _Job(row=0, file=good, stream=good, header=read_jpeg_header(good))
        self._turbo = TurboDecoder(threads)
        self._process = os.getpid()
        self._lost = False
        self._full = False
        threads = threads or usable_cores(8 if device == "mixed" else 4)
        try:
            self._place: Place = (
                HostPlace(threads) if device == "cpu" else GpuPlace(on or current_device(), hw_decoder_load)
            )
            self._pipelines = DaliPipelines(self._place, threads)
            self._try()
        except (ImportError, OSError, *FAILURES) as e:
            needs = "needs NVIDIA DALI" if device == "cpu" else "on a GPU needs NVIDIA DALI and CUDA"
            raise DecoderUnavailableError(f"JPEG decoder 'dali' {needs}: {_reason(e)}") from e
        self.name = f"dali-{device} {self._pipelines.version}"

    def decode(
        self, files: Sequence[bytes], *, allocate: Allocate = allocate_array
    ) -> list[Picture | DeviceArray | DecodeError]:
        """Decode files; see `JpegDecoder.decode`."""
        if not (self._place.survives_fork or self._lost or os.getpid() == self._process):
            self._lost = True
            log.info("CUDA does not survive a fork: in this child libjpeg-turbo decodes JPEG files")
        if self._lost or self._pipelines.ended:
            return [*self._turbo.decode(files, allocate=allocate)]
        results: list[Any] = [*each(self._place.check, files, self._place.check_threads)]
        for components in (1, 3):
            for batch in self._batches(files, results, components):
                for job, picture in zip(batch, self._decode_batch(batch, allocate), strict=True):
                    results[job.row] = picture
        rest = [i for i, result in enumerate(results) if isinstance(result, ImageHeader)]
        for i, picture in zip(rest, self._turbo.decode([files[i] for i in rest], allocate=allocate), strict=True):
            results[i] = picture
        return results

    def decoded_by(self, picture: Picture | DeviceArray | DecodeError) -> str:
        """Return the library that made a result; see `JpegDecoder.decoded_by`."""
        on_host = isinstance(self._place, HostPlace)  # the bytes do not depend on the library there
        return self.name if on_host or isinstance(picture, DeviceArray) else self._turbo.name

    def _batches(self, files: Sequence[bytes], results: Sequence[Any], components: int) -> Iterator[list[_Job]]:
        """Yield the files that DALI can decode and that have a header in `results`, in batches that fit the device."""
        batch: list[_Job] = []
        nbytes = 0
        for i, header in enumerate(results):
            if not isinstance(header, ImageHeader) or header.components != components:
                continue
            stream = self._place.stream(files[i], header)
            if stream is None:
                continue
            if batch and (len(batch) == self._place.batch_files or nbytes + header.nbytes > self._place.batch_bytes):
                yield batch
                batch, nbytes = [], 0
            batch.append(_Job(row=i, file=files[i], stream=stream, header=header))
            nbytes += header.nbytes
        if batch:
            yield batch

    def _decode_batch(self, batch: Sequence[_Job], allocate: Allocate) -> list[Picture | DeviceArray | DecodeError]:
        """Decode files that all have the same number of components.

        A file that DALI rejects fails its batch; then each file is decoded separately.
        """
        failure = None
        try:
            if not self._lost:
                return self._run(batch, allocate)
        except DeviceMemoryError as e:
            log.log(
                logging.DEBUG if self._full else logging.WARNING,
                "no room on the device for pictures of JPEG files, libjpeg-turbo decodes them on the host: %s",
                e,
            )
            self._full = True
        except FAILURES as e:
            failure = _reason(e)  # not `e`, which keeps the broken pipeline
        if failure is not None and self._works():
            if len(batch) > 1:
                log.info("DALI failed on %d JPEG files, each is tried separately: %s", len(batch), failure)
                return [result for job in batch for result in self._decode_batch([job], allocate)]
            log.info("DALI failed on a JPEG file, libjpeg-turbo decodes it: %s", failure)
        elif failure is not None and not (self._lost or self._pipelines.ended):
            self._lost = True
            log.error("%s fails on every file, libjpeg-turbo decodes all from now on: %s", self.name, failure)
        return [*self._turbo.decode([job.file for job in batch], allocate=allocate)]

    def _works(self) -> bool:
        """Return whether a valid file can be decoded: if so, the other files were the cause of a failure."""
        try:
            self._try()
        except FAILURES as e:
            log.debug("%s", e)
            return False
        return True

    def _try(self) -> None:
        try:
            self._run([self._good], allocate_array)
        except DeviceMemoryError as e:  # the device works and only has no room
            log.debug("%s", e)

    def _run(self, batch: Sequence[_Job], allocate: Allocate) -> list[Any]:
        """Decode a batch with DALI. Raises FAILURES."""
        headers = [job.header for job in batch]
        return self._pipelines.run(
            [job.stream for job in batch],
            headers[0].components,
            lambda tensors: self._place.take(tensors, headers, allocate),
        )


def _reason(error: BaseException) -> str:
    """Return the essential part of one of DALI's long messages, or all of another message, in one line."""
    return " ".join(str(error).rpartition("encountered:")[2].split())
