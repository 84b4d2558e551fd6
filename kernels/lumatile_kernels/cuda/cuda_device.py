"""A GPU, through CuPy: memory, streams, copies and launches."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import BackendUnavailableError
from lumatile_kernels.cuda.compile import CompileError, compile_kernel
from lumatile_kernels.cuda.sources import TRANSLUCENT
from lumatile_kernels.device import Borrowed, DeviceError, DeviceMemoryError, Event, Kernel, Memory, Stream

THREADS = 256
"""The threads of a block, for all kernels."""

_OUT_OF_MEMORY = 2
"""The value of cudaErrorMemoryAllocation and CUDA_ERROR_OUT_OF_MEMORY."""


class CudaDevice:
    """A GPU; see `Device`."""

    def __init__(self, number: int | None = None) -> None:
        """Use the device with the CUDA ordinal `number`; None: the current device of the calling thread.

        Raises BackendUnavailableError if there is no such device, or CuPy cannot use it.
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
        """The lock that is held while a kernel is compiled."""
        try:
            with self._current():
                self._function(TRANSLUCENT)
        except (ImportError, CompileError) as e:
            raise BackendUnavailableError(f"backend 'cuda' needs NVRTC, which compiles its kernels: {e}") from e
        except DeviceError as e:
            raise BackendUnavailableError(f"backend 'cuda' cannot run on {self.name}: {e}") from e

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the device the current one of the calling thread, and translate the errors of CuPy."""
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
        """Allocate device memory; see `Device.allocate`."""
        with self._current():
            return _CudaMemory(self._cupy.cuda.memory.Memory(nbytes), nbytes)

    def stream(self) -> Stream:
        """Make a stream; see `Device.stream`."""
        with self._current():
            return self._cupy.cuda.Stream(non_blocking=True)

    def borrowed_stream(self, handle: int) -> Stream:
        """Wrap the stream of another library; see `Device.borrowed_stream`."""
        return self._cupy.cuda.ExternalStream(handle, self.number)

    def borrow(self, value: Any, stream: Stream) -> Borrowed:
        """Borrow an array of another library; see `Device.borrow`. CuPy makes it C-contiguous."""
        cupy = self._cupy
        with self._current(), stream:
            array = cupy.from_dlpack(value) if hasattr(value, "__dlpack__") else cupy.asarray(value)
            array = cupy.ascontiguousarray(array)
            return Borrowed(pointer=int(array.data.ptr), shape=array.shape, dtype=array.dtype, owner=array)

    def upload(self, to: int, array: NDArray[Any], stream: Stream) -> None:
        """Copy a host array to the device; see `Device.upload`."""
        with self._current():
            self._copy(to, array.ctypes.data, array.nbytes, self._cupy.cuda.runtime.memcpyHostToDevice, stream)

    def download(self, to: NDArray[np.uint8], source: int, stream: Stream) -> None:
        """Fill a host array from the device; see `Device.download`."""
        with self._current():
            self._copy(to.ctypes.data, source, to.nbytes, self._cupy.cuda.runtime.memcpyDeviceToHost, stream)

    def copy(self, to: int, source: int, nbytes: int, stream: Stream) -> None:
        """Copy within the device; see `Device.copy`."""
        with self._current():
            self._copy(to, source, nbytes, self._cupy.cuda.runtime.memcpyDeviceToDevice, stream)

    def _copy(self, to: int, source: int, nbytes: int, kind: int, stream: Stream) -> None:
        if nbytes:
            self._cupy.cuda.runtime.memcpyAsync(to, source, nbytes, kind, stream.ptr)

    def zero(self, to: int, nbytes: int, stream: Stream) -> None:
        """Fill device memory with zeros; see `Device.zero`."""
        with self._current():
            self._cupy.cuda.runtime.memsetAsync(to, 0, nbytes, stream.ptr)

    def launch(self, kernel: Kernel, arguments: NDArray[Any], blocks: int, stream: Stream) -> None:
        """Run a kernel; see `Device.launch`."""
        with self._current():
            try:
                function, resident = self._function(kernel)
            except CompileError as e:  # NVRTC is available: it has compiled a smaller kernel before
                raise DeviceError(str(e)) from e
            function((max(1, min(blocks, resident)),), (THREADS,), (arguments,), stream=stream)

    def _function(self, kernel: Kernel) -> tuple[Any, int]:
        """Return a kernel, compiled at first use, and the number of its blocks that the device runs at once."""
        with self._lock:
            if kernel not in self._functions:
                module = self._cupy.cuda.function.Module()
                module.load(compile_kernel(kernel, self.architecture))
                function = module.get_function(kernel.name)
                each = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(function.ptr, THREADS, 0)
                self._functions[kernel] = function, self.multiprocessors * max(1, each)
            return self._functions[kernel]

    def argsort(self, to: int, keys: int, count: int, stream: Stream) -> None:
        """Sort keys stably; see `Device.argsort`."""
        cupy = self._cupy
        with self._current(), stream:
            memory = cupy.cuda.UnownedMemory(keys, 8 * count, self, self.number)
            array = cupy.ndarray((count,), np.uint64, cupy.cuda.MemoryPointer(memory, 0))
            order = cupy.argsort(array)  # Thrust's, which is stable
            self._copy(to, order.data.ptr, 8 * count, cupy.cuda.runtime.memcpyDeviceToDevice, stream)

    def record(self, stream: Stream) -> Event:
        """Record an event; see `Device.record`."""
        with self._current():
            event = self._cupy.cuda.Event(block=True, disable_timing=True)  # a waiting thread does not keep a core busy
            event.record(stream)
            return event

    def wait(self, stream: Stream, event: Event) -> None:
        """Make a stream wait for an event; see `Device.wait`."""
        with self._current():
            stream.wait_event(event)

    def synchronize(self, event: Event) -> None:
        """Wait for an event; see `Device.synchronize`."""
        with self._current():
            event.synchronize()

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """Lock host memory in place; see `Device.pin`."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        with self._current():
            self._cupy.cuda.runtime.hostRegister(address, len(memory), 1)  # 1: for all devices of the process

        def unpin() -> None:
            with self._current():
                self._cupy.cuda.runtime.hostUnregister(address)

        return unpin


class _CudaMemory:
    """Device memory of CuPy; see `Memory`."""

    def __init__(self, memory: Any, nbytes: int) -> None:
        self._memory = memory
        self.pointer = int(memory.ptr)
        self.nbytes = nbytes


def _reason(runtime: Any, error: Exception) -> str:
    """Return the message of CUDA, and the versions if they do not fit."""
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
