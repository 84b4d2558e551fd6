"""Tensors of torch, CuPy, JAX and other libraries on a GPU: private copies on the device, made without waiting.

A copy is enqueued on the stream that the caller's library uses, so that it happens after the operations that were
enqueued before it, and before those that follow.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumatile_kernels.backend import BackendUnavailableError
from lumatile_kernels.cuda.arrays import DeviceArray, device_numbered, side_stream
from lumatile_kernels.cuda.ids import OUTSIDE_BYTES, is_wide, narrow_ids
from lumatile_kernels.cuda.loans import loans_of
from lumatile_kernels.device import Borrowed, Device, DeviceError, Stream

log = logging.getLogger(__name__)

CUDA = 2
"""The value of kDLCUDA in DLPack."""


def on_cuda(value: Any) -> bool:
    """Return whether `value` is an array on a GPU."""
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) == CUDA
    return hasattr(type(value), "__cuda_array_interface__")


def snapshot(value: Any, *, ids: bool = False) -> DeviceArray | None:
    """Copy an array on a GPU, without waiting; the caller may change the array as soon as this returns.

    `ids`: the elements are class ids: integers other than uint8 and uint16 become uint16, see `DeviceArray.check_ids`.

    The copy is waited for only if the stream of the library is not known: it is known for torch, CuPy, JAX, and a CUDA
    Array Interface that names it. bfloat16 becomes float32, and the library of the array makes it C-contiguous.
    Return None, and log that once, if CuPy cannot use the device or the device has no room.
    """
    try:
        device = device_numbered(_device_number(value))
        return _copied(value, device, ids=ids)
    except BackendUnavailableError as e:
        _say("tensors on a GPU are copied to the host at the call (logged once): %s", e)
    except DeviceError as e:
        _say("a tensor could not be kept on its GPU, and goes to the host at the call (logged once): %s", e)
    return None


def _device_number(value: Any) -> int:
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[1])
    device = getattr(value, "device", None)
    return int(getattr(device, "id", 0) or 0)


_SAID: set[str] = set()


def _say(message: str, error: Exception) -> None:
    if message not in _SAID:
        _SAID.add(message)
        log.warning(message, error)


def _copied(value: Any, device: Device, *, ids: bool) -> DeviceArray:
    """Return the copy that `snapshot` returns. Raises DeviceError."""
    side = side_stream(device)
    found = _borrowed(value, device, side)
    source = found.array
    narrowed = ids and is_wide(source.dtype)
    dtype = np.dtype(np.uint16) if narrowed else source.dtype
    nbytes = int(np.prod(source.shape, dtype=np.int64)) * dtype.itemsize
    outside = -(-nbytes // OUTSIDE_BYTES) * OUTSIDE_BYTES
    stream = side if found.stream is None else found.stream
    loan = loans_of(device).take(outside + OUTSIDE_BYTES, stream)
    if narrowed:
        narrow_ids(device, source, loan.pointer, loan.pointer + outside, stream)
    else:
        device.copy(loan.pointer, source.pointer, nbytes, stream)
    loan.written = device.record(stream)
    if not found.safe:
        device.synchronize(loan.written)
    return DeviceArray(
        device=device,
        pointer=loan.pointer,
        shape=source.shape,
        dtype=dtype,
        ready=loan.written,
        owner=(loan, source.owner if found.stream is None else None),
        narrowed_from=source.dtype if narrowed else None,
        outside=loan.pointer + outside if narrowed else 0,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Readable:
    """A tensor, and the stream on which it may be read."""

    array: Borrowed
    stream: Stream | None
    """The stream of the caller; None: the tensor may be read on the side stream."""
    safe: bool = True
    """Whether the tensor stays unchanged until it has been copied, without waiting."""


def _borrowed(value: Any, device: Device, side: Stream) -> _Readable:
    library = type(value).__module__.partition(".")[0]
    if library == "torch":
        return _of_torch(value, device)
    if library == "cupy":
        stream = device.borrowed_stream(int(sys.modules["cupy"].cuda.get_current_stream(device.number).ptr))
        return _Readable(array=device.borrow(value, stream), stream=stream)
    interface = getattr(value, "__cuda_array_interface__", {}) if library not in ("jax", "jaxlib") else {}
    if interface.get("stream") is not None:
        stream = device.borrowed_stream(int(interface["stream"]))
        return _Readable(array=device.borrow(value, stream), stream=stream)
    return _Readable(array=device.borrow(value, side), stream=None, safe=library in ("jax", "jaxlib"))


def _of_torch(tensor: Any, device: Device) -> _Readable:
    """Return a torch tensor, on the stream that torch uses in this thread."""
    tensor = tensor.detach()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    tensor = tensor.contiguous()
    stream = device.borrowed_stream(int(sys.modules["torch"].cuda.current_stream(device.number).cuda_stream))
    array = Borrowed(
        pointer=int(tensor.data_ptr()),
        shape=tuple(int(n) for n in tensor.shape),
        dtype=np.dtype(str(tensor.dtype).removeprefix("torch.")),
        owner=tensor,
    )
    # torch frees memory on the stream that it allocates on, so it outlives a copy on that stream
    return _Readable(array=array, stream=stream)
