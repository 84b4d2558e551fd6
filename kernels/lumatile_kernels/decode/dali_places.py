"""Where DALI decodes JPEG files and their pictures stay: the host, or a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

from lumatile_kernels.backend import Allocate
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.loans import loans_of
from lumatile_kernels.decode.image_header import ImageHeader
from lumatile_kernels.decode.nvjpeg_input import nvjpeg_input
from lumatile_kernels.decode.turbo_jpeg import Picture, check_whole, looks_cut, place, read_jpeg_header
from lumatile_kernels.device import Device

GPU_BATCH_FILES = 128
"""Files that a GPU gets at once, at most."""

GPU_BATCH_BYTES = 512 << 20
"""Their pictures, in bytes, at most; a larger one goes alone."""


class Place(Protocol):
    """A device of DALI's. Methods raise what DALI and `Device` do."""

    operator_device: Literal["cpu", "mixed"]
    """DALI's word for it."""
    number: int | None
    """CUDA's ordinal."""
    options: dict[str, Any]
    """Of DALI's image decoder."""
    batch_files: int
    batch_bytes: int
    check_threads: int
    """How many `check` is worth."""
    survives_fork: bool
    """Whether a child may use it that was forked after its parent did."""

    def check(self, file: bytes) -> ImageHeader:
        """Look at a file before DALI does. Raises DecodeError."""
        ...

    def stream(self, file: bytes, header: ImageHeader) -> bytes | None:
        """What DALI is to read of a file; None if that is better left to libjpeg-turbo."""
        ...

    def take(self, tensors: Any, headers: Sequence[ImageHeader], allocate: Allocate) -> list[Any]:
        """Private copies of DALI's pictures, which it may overwrite when this returns."""
        ...


class HostPlace:
    """The host, where DALI is libjpeg-turbo; it sees no file that libjpeg-turbo's strict mode complains of."""

    operator_device: Literal["cpu", "mixed"] = "cpu"
    number: int | None = None
    batch_bytes = 1 << 62
    survives_fork = True

    def __init__(self, threads: int) -> None:
        """`threads`: files decoded at once."""
        self.options: dict[str, Any] = {"adjust_orientation": False}
        self.batch_files = self.check_threads = threads

    def check(self, file: bytes) -> ImageHeader:
        """See Place."""
        return check_whole(file)

    def stream(self, file: bytes, header: ImageHeader) -> bytes | None:  # noqa: ARG002
        """See Place."""
        return file

    def take(self, tensors: Any, headers: Sequence[ImageHeader], allocate: Allocate) -> list[Picture]:
        """See Place."""
        return [place(np.asarray(tensors[i]), header, allocate) for i, header in enumerate(headers)]


class GpuPlace:
    """A GPU, where DALI is nvJPEG. Never run on one yet; the tests put DALI's host operator behind it."""

    operator_device: Literal["cpu", "mixed"] = "mixed"
    batch_files = GPU_BATCH_FILES
    batch_bytes = GPU_BATCH_BYTES
    check_threads = 1
    survives_fork = False

    def __init__(self, device: Device, hw_decoder_load: float | None) -> None:
        """`hw_decoder_load`: the share of a batch for the hardware decoder; None: DALI's default."""
        self._device = device
        self._stream: Any = None
        """Of the copies; made at the first."""
        self.number: int | None = device.number
        self.options: dict[str, Any] = {
            "adjust_orientation": True,
            "jpeg_fancy_upsampling": True,  # chroma as in libjpeg-turbo; without, nvImageCodec's tests allow 44 codes
            "affine": False,  # else the threads of all processes are tied to the same cores
        }
        if hw_decoder_load is not None:
            self.options["hw_decoder_load"] = hw_decoder_load

    def check(self, file: bytes) -> ImageHeader:
        """See Place."""
        return read_jpeg_header(file)

    def stream(self, file: bytes, header: ImageHeader) -> bytes | None:
        """See Place."""
        return None if looks_cut(file) else nvjpeg_input(file, header)

    def take(self, tensors: Any, headers: Sequence[ImageHeader], allocate: Allocate) -> list[DeviceArray]:  # noqa: ARG002
        """See Place. One piece of memory for all, reused when the last picture is garbage."""
        starts = np.cumsum([0, *(-(-header.nbytes // 256) * 256 for header in headers)]).tolist()
        if self._stream is None:
            self._stream = self._device.stream()
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
