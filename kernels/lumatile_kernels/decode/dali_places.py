"""The places where DALI decodes JPEG files and leaves the pictures: the host, or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from lumatile_kernels.backend import Allocate
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.loans import loans_of
from lumatile_kernels.decode.image_header import ImageHeader
from lumatile_kernels.decode.nvjpeg_input import nvjpeg_input
from lumatile_kernels.decode.turbo_jpeg import Picture, check_whole, looks_cut, place, read_jpeg_header
from lumatile_kernels.device import Device, Stream

GPU_BATCH_FILES = 128
"""The most files of a batch on a GPU."""

GPU_BATCH_BYTES = 512 << 20
"""The most bytes of the pictures of a batch on a GPU; a larger picture is a batch of its own."""


class Place(Protocol):
    """A device that DALI decodes on. Its methods raise the errors of DALI and of `Device`."""

    operator_device: Literal["cpu", "mixed"]
    """The name of the device in DALI."""
    number: int | None
    """The CUDA ordinal of a GPU; None: the host."""
    options: dict[str, Any]
    """The options of DALI's image decoder."""
    batch_files: int
    """The most files of a batch."""
    batch_bytes: int
    """The most bytes of the pictures of a batch."""
    check_threads: int
    """The number of threads that run `check`."""
    survives_fork: bool
    """Whether a child may use the device that was forked after its parent had used it."""

    def check(self, file: bytes) -> ImageHeader:
        """Check a file before DALI reads it, and return its header. Raises DecodeError."""
        ...

    def stream(self, file: bytes, header: ImageHeader) -> bytes | None:
        """Return the bytes that DALI reads for a file; None if libjpeg-turbo should decode it."""
        ...

    def take(self, tensors: Any, headers: Sequence[ImageHeader], allocate: Allocate) -> list[Any]:
        """Return private copies of DALI's pictures, which DALI may overwrite afterwards."""
        ...


class HostPlace:
    """The host, where DALI uses libjpeg-turbo; it gets only files that the strict mode of libjpeg-turbo accepts."""

    operator_device: Literal["cpu", "mixed"] = "cpu"
    number: int | None = None
    batch_bytes = 1 << 62
    survives_fork = True

    def __init__(self, threads: int) -> None:
        """Decode `threads` files at the same time."""
        self.options: dict[str, Any] = {"adjust_orientation": False}
        self.batch_files = self.check_threads = threads

    def check(self, file: bytes) -> ImageHeader:
        """Check a file; see `Place.check`."""
        return check_whole(file)

    def stream(self, file: bytes, header: ImageHeader) -> bytes | None:  # noqa: ARG002
        """Return the bytes that DALI reads; see `Place.stream`."""
        return file

    def take(self, tensors: Any, headers: Sequence[ImageHeader], allocate: Allocate) -> list[Picture]:
        """Copy the pictures; see `Place.take`."""
        return [place(np.asarray(tensors[i]), header, allocate) for i, header in enumerate(headers)]


class GpuPlace:
    """A GPU, where DALI uses nvJPEG. It has not run on a GPU yet: the tests give it DALI's host operator."""

    operator_device: Literal["cpu", "mixed"] = "mixed"
    batch_files = GPU_BATCH_FILES
    batch_bytes = GPU_BATCH_BYTES
    check_threads = 1
    survives_fork = False

    def __init__(self, device: Device, hw_decoder_load: float | None) -> None:
        """Decode on `device`; `hw_decoder_load`: the share of a batch for the JPEG hardware, None: DALI's default."""
        self._device = device
        self.number: int | None = device.number
        self.options: dict[str, Any] = {
            "adjust_orientation": True,
            "jpeg_fancy_upsampling": True,  # as in libjpeg-turbo; without it nvImageCodec's tests allow 44 codes
            "affine": False,  # otherwise the threads of all processes are bound to the same cores
        }
        if hw_decoder_load is not None:
            self.options["hw_decoder_load"] = hw_decoder_load

    @cached_property
    def _stream(self) -> Stream:
        """The stream of the copies."""
        return self._device.stream()

    def check(self, file: bytes) -> ImageHeader:
        """Check a file; see `Place.check`."""
        return read_jpeg_header(file)

    def stream(self, file: bytes, header: ImageHeader) -> bytes | None:
        """Return the bytes that DALI reads; see `Place.stream`."""
        return None if looks_cut(file) else nvjpeg_input(file, header)

    def take(self, tensors: Any, headers: Sequence[ImageHeader], allocate: Allocate) -> list[DeviceArray]:  # noqa: ARG002
        """Copy the pictures into one piece of memory, reused when the last is garbage; see `Place.take`."""
        starts = np.cumsum([0, *(-(-header.nbytes // 256) * 256 for header in headers)]).tolist()
        stream = self._stream
        memory = loans_of(self._device).take(starts[-1], stream)
        for i, header in enumerate(headers):
            shape = tuple(tensors[i].shape())
            if shape != header.shape:
                raise RuntimeError(f"DALI gave a picture of shape {shape}, not {header.shape}")
            self._device.copy(memory.pointer + starts[i], tensors[i].data_ptr(), header.nbytes, stream)
        ready = self._device.record(stream)
        self._device.synchronize(ready)
        return [
            DeviceArray(
                device=self._device,
                pointer=memory.pointer + start,
                shape=header.shape,
                dtype=np.dtype(np.uint8),
                ready=ready,
                owner=memory,
            )
            for start, header in zip(starts, headers, strict=False)
        ]
