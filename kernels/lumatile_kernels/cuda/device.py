"""One GPU, through CuPy: memory, streams, copies and launches. The rest of the backend uses these verbs alone."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import BackendUnavailableError
from lumatile_kernels.cuda.compile import CompileError, compile_kernel
from lumatile_kernels.cuda.sources import TRANSLUCENT, Kernel

THREADS = 256
"""Threads of a block, of all kernels."""

_OUT_OF_MEMORY = 2
"""cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY"""


class DeviceError(RuntimeError):
    """The device has failed, for good; the message is CUDA's."""


class DeviceMemoryError(DeviceError):
    """The device has no memory left for this; it goes on working."""


Stream = Any
"""What is enqueued on one happens in that order."""

Event = Any
"""A point in a stream."""


class Memory(Protocol):
    """Some bytes of device memory; free again when it is garbage."""

    @property
    def pointer(self) -> int:
        """Its address, a multiple of 256."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Borrowed:
    """Somebody else's array on a device."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any
    """Keeps the memory alive."""


class Device(Protocol):
    """What a backend needs of a GPU. Methods raise DeviceError; all may be called from several threads."""

    number: int
    """Its CUDA ordinal."""
    name: str

    def allocate(self, nbytes: int) -> Memory:
        """Uninitialised memory, straight from the driver. Raises DeviceMemoryError."""
        ...

    def stream(self) -> Stream:
        """A new stream, which waits for no other."""
        ...

    def borrowed_stream(self, handle: int) -> Stream:
        """Somebody else's stream, by its CUDA handle."""
        ...

    def borrow(self, value: Any, stream: Stream) -> Borrowed:
        """Somebody else's array on this device (DLPack or CUDA Array Interface), readable on `stream`; not copied."""
        ...

    def upload(self, to: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy a contiguous host array to the device; it must stay as it is until the stream gets there."""
        ...

    def download(self, to: NDArray[np.uint8], source: int, stream: Stream) -> None:
        """Fill a contiguous host array from the device, asynchronously where its memory is pinned."""
        ...

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy on the device."""
        ...

    def zero(self, to: int, nbytes: int, stream: Stream) -> None:
        """Zero device memory."""
        ...

    def launch(self, kernel: Kernel, arguments: NDArray[Any], blocks: int, stream: Stream) -> None:
        """Run a kernel in at most `blocks` blocks; `arguments`: (1,) of its struct."""
        ...

    def argsort(self, to: int, keys: int, count: int, stream: Stream) -> None:
        """Write the (count,) int64 order that sorts uint64 keys stably to `to`."""
        ...

    def record(self, stream: Stream) -> Event:
        """The point that a stream has been enqueued to."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """What is enqueued on `stream` from now on waits for `event`."""
        ...

    def synchronize(self, event: Event) -> None:
        """Wait for `event` here."""
        ...

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """Lock host memory in place, so that copies are asynchronous and fast; returns what undoes it."""
        ...


def settle(device: Device, *streams: Stream) -> bool:
    """Wait for all that was enqueued, after something has failed; whether it came to an end."""
    try:
        for stream in streams:
            device.synchronize(device.record(stream))
    except DeviceError:
        return False
    return True


class CudaDevice:
    """A `Device` that is one."""

    def __init__(self, number: int | None = None) -> None:
        """`number`: CUDA's ordinal; None: the calling thread's current device.

        Raises BackendUnavailableError where there is no such device, or CuPy cannot use it.
        """
        try:
            import cupy
        except ImportError as e:
            raise BackendUnavailableError(
                f"backend 'cuda' needs CuPy (pip install 'lumatile[gpu-cu13]' or 'lumatile[gpu-cu12]'): {e}"
            ) from e
        self._cupy = cupy
        runtime = cupy.cuda.runtime
        try:
            devices = runtime.getDeviceCount()
            if devices == 0 or (number is not None and not 0 <= number < devices):
                raise BackendUnavailableError(f"backend 'cuda' needs device {number or 0}, and there are {devices}")
            self.number = runtime.getDevice() if number is None else number
            properties = runtime.getDeviceProperties(self.number)
            self._device = cupy.cuda.Device(self.number)
        except runtime.CUDARuntimeError as e:
            raise BackendUnavailableError(f"backend 'cuda' needs a CUDA device: {_reason(runtime, e)}") from e
        self.name = properties["name"].decode()
        self.multiprocessors = int(properties["multiProcessorCount"])
        self.architecture = 10 * int(properties["major"]) + int(properties["minor"])
        self._functions: dict[Kernel, tuple[Any, int]] = {}
        self._lock = threading.Lock()
        """Held while a kernel is compiled."""
        try:
            with self._current():
                self._function(TRANSLUCENT)
        except (ImportError, CompileError) as e:
            raise BackendUnavailableError(f"backend 'cuda' needs NVRTC, which compiles its kernels: {e}") from e
        except DeviceError as e:
            raise BackendUnavailableError(f"backend 'cuda' cannot run on {self.name}: {e}") from e

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the device the calling thread's, and CuPy's errors this package's."""
        cuda = self._cupy.cuda
        try:
            with self._device:
                yield
        except cuda.memory.OutOfMemoryError as e:
            raise DeviceMemoryError(str(e)) from e
        except cuda.runtime.CUDARuntimeError as e:
            if e.status == _OUT_OF_MEMORY:
                raise DeviceMemoryError(str(e)) from e
            raise DeviceError(str(e)) from e
        except cuda.driver.CUDADriverError as e:
            if e.status == _OUT_OF_MEMORY:
                raise DeviceMemoryError(str(e)) from e
            raise DeviceError(str(e)) from e

    def allocate(self, nbytes: int) -> Memory:
        """See Device."""
        with self._current():
            return _CudaMemory(self._cupy.cuda.memory.Memory(nbytes), nbytes)

    def stream(self) -> Stream:
        """See Device."""
        with self._current():
            return self._cupy.cuda.Stream(non_blocking=True)

    def borrowed_stream(self, handle: int) -> Stream:
        """See Device."""
        return self._cupy.cuda.ExternalStream(handle, self.number)

    def borrow(self, value: Any, stream: Stream) -> Borrowed:
        """See Device: made C-contiguous by CuPy where it is not."""
        cupy = self._cupy
        with self._current(), stream:
            array = cupy.from_dlpack(value) if hasattr(value, "__dlpack__") else cupy.asarray(value)
            array = cupy.ascontiguousarray(array)
            return Borrowed(pointer=int(array.data.ptr), shape=array.shape, dtype=array.dtype, owner=array)

    def upload(self, to: int, array: NDArray[Any], stream: Stream) -> None:
        """See Device."""
        with self._current():
            self._copy(to, array.ctypes.data, array.nbytes, self._cupy.cuda.runtime.memcpyHostToDevice, stream)

    def download(self, to: NDArray[np.uint8], source: int, stream: Stream) -> None:
        """See Device."""
        with self._current():
            self._copy(to.ctypes.data, source, to.nbytes, self._cupy.cuda.runtime.memcpyDeviceToHost, stream)

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """See Device."""
        with self._current():
            self._copy(to, source, nbytes, self._cupy.cuda.runtime.memcpyDeviceToDevice, stream)

    def _copy(self, to: int, source: int, nbytes: int, kind: int, stream: Stream) -> None:
        if nbytes:
            self._cupy.cuda.runtime.memcpyAsync(to, source, nbytes, kind, stream.ptr)

    def zero(self, to: int, nbytes: int, stream: Stream) -> None:
        """See Device."""
        with self._current():
            self._cupy.cuda.runtime.memsetAsync(to, 0, nbytes, stream.ptr)

    def launch(self, kernel: Kernel, arguments: NDArray[Any], blocks: int, stream: Stream) -> None:
        """See Device."""
        with self._current():
            try:
                function, resident = self._function(kernel)
            except CompileError as e:  # a smaller kernel was compiled before, so NVRTC is there
                raise DeviceError(str(e)) from e
            function((max(1, min(blocks, resident)),), (THREADS,), (arguments,), stream=stream)

    def _function(self, kernel: Kernel) -> tuple[Any, int]:
        """A kernel, and how many of its blocks the device holds at once; compiled on first use."""
        with self._lock:
            if kernel not in self._functions:
                module = self._cupy.cuda.function.Module()
                module.load(compile_kernel(kernel, self.architecture))
                function = module.get_function(kernel.name)
                each = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, THREADS, 0)
                self._functions[kernel] = function, self.multiprocessors * max(1, each)
            return self._functions[kernel]

    def argsort(self, to: int, keys: int, count: int, stream: Stream) -> None:
        """See Device."""
        cupy = self._cupy
        with self._current(), stream:
            memory = cupy.cuda.UnownedMemory(keys, 8 * count, self, self.number)
            array = cupy.ndarray((count,), np.uint64, cupy.cuda.MemoryPointer(memory, 0))
            order = cupy.argsort(array)  # stable: Thrust's
            self._copy(to, order.data.ptr, 8 * count, cupy.cuda.runtime.memcpyDeviceToDevice, stream)

    def record(self, stream: Stream) -> Event:
        """See Device."""
        with self._current():
            event = self._cupy.cuda.Event(block=True, disable_timing=True)  # who waits leaves the processor to others
            event.record(stream)
            return event

    def wait(self, stream: Stream, event: Event) -> None:
        """See Device."""
        with self._current():
            stream.wait_event(event)

    def synchronize(self, event: Event) -> None:
        """See Device."""
        with self._current():
            event.synchronize()

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """See Device."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        with self._current():
            self._cupy.cuda.runtime.hostRegister(address, len(memory), 1)  # 1: for all of the process's devices

        def unpin() -> None:
            with self._current():
                self._cupy.cuda.runtime.hostUnregister(address)

        return unpin


class _CudaMemory:
    def __init__(self, memory: Any, nbytes: int) -> None:
        self._memory = memory
        self.pointer = int(memory.ptr)
        self.nbytes = nbytes


def _reason(runtime: Any, error: Exception) -> str:
    """What CUDA says, and the versions where they do not fit."""
    try:
        driver, wanted = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError:
        return str(error)
    if driver == 0:
        return f"{error} (no NVIDIA driver is loaded)"
    if driver // 1000 < wanted // 1000:
        return (
            f"{error} (the driver supports CUDA {_version(driver)}, CuPy is built for {_version(wanted)}: "
            f"update the driver, or install lumatile[gpu-cu{driver // 1000}])"
        )
    return str(error)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
