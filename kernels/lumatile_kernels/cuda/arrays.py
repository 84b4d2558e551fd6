"""Arrays on a GPU: private copies of what was logged, made without waiting for anybody."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, allocate_array
from lumatile_kernels.cuda.cuda_device import CudaDevice
from lumatile_kernels.device import Device, Event, Stream

DEVICES: dict[int, Device] = {}
"""Devices of this process that have been used, by number."""


def device_numbered(number: int) -> Device:
    """The device with a CUDA ordinal; one object for each. Raises BackendUnavailableError."""
    if number not in DEVICES:
        DEVICES[number] = CudaDevice(number)
    return DEVICES[number]


def current_device() -> Device:
    """The calling thread's current device. Raises BackendUnavailableError."""
    device = CudaDevice()
    return DEVICES.setdefault(device.number, device)


_SIDES: weakref.WeakKeyDictionary[Device, Stream] = weakref.WeakKeyDictionary()


def side_stream(device: Device) -> Stream:
    """The stream of a device for copies that have none of their own."""
    if device not in _SIDES:
        _SIDES[device] = device.stream()
    return _SIDES[device]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceArray:
    """A C-contiguous array on a GPU that nobody changes any more."""

    device: Device
    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ready: Event
    """What happens after it finds the array's content there."""
    owner: Any
    """Keeps the memory alive."""
    narrowed_from: np.dtype[Any] | None = None
    """Class ids of a wide type, which are uint16 now; `check_ids` says whether they fitted."""
    outside: int = 0
    """Where the device keeps what did not fit; see ids.py."""

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self.shape)

    @cached_property
    def nbytes(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def reshape(self, shape: tuple[int, ...]) -> DeviceArray:
        """The same content in another shape of as many elements."""
        return replace(self, shape=tuple(shape))

    def view(self, dtype: np.dtype[Any]) -> DeviceArray:
        """The same bytes as another dtype of the same size."""
        return replace(self, dtype=dtype)

    def check_ids(self) -> None:
        """Wait until class ids have been narrowed. Raises ValueError with one that did not fit, and DeviceError."""
        if self.narrowed_from is None:
            return
        below, above = replace(self, pointer=self.outside, shape=(2,), dtype=np.dtype(np.uint64)).host().tolist()
        if below or above:
            raise ValueError(f"class ids must be 0 to 65535, not {-below or above}")

    def host(self, allocate: Allocate = allocate_array) -> NDArray[Any]:
        """A copy in host memory from `allocate`; waits for it. Raises DeviceError."""
        buffer = allocate(self.nbytes)
        stream = side_stream(self.device)
        self.device.wait(stream, self.ready)
        self.device.download(buffer, self.pointer, stream)
        self.device.synchronize(self.device.record(stream))
        return buffer.view(self.dtype).reshape(self.shape)
