"""Arrays of any library, as numpy arrays that belong to the logged value."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lumatile.buffers import POOL
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile_kernels import fork

if TYPE_CHECKING:
    from lumatile_kernels.cuda.arrays import DeviceArray

HOST = (1, 3, 13)
"""DLPack's kDLCPU, kDLCUDAHost and kDLCUDAManaged: memory that numpy can read."""


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return numpy's name for a dtype; numpy makes it anew each time, in a tenth of the time of a small log call."""
    return dtype.name


def as_array(name: str, value: Any, *, masked: float | None = None) -> tuple[NDArray[Any], bool]:
    """Return `value` as a numpy array of bool, (u)int or float in native byte order, and whether only we can write it.

    Takes objects with __dlpack__, __array__, __array_interface__, __cuda_array_interface__ or the buffer protocol, and
    nested sequences of numbers. An array on a GPU is copied to the host; bfloat16 becomes float32.
    `name`: the argument's, for messages. `masked`: the number that masked elements of a `np.ma` array become; NaN makes
    integers float64; None: they are refused.
    Raises InvalidTypeError for anything else, InvalidValueError for ragged sequences and masked elements.
    """
    value = _unmasked(name, value, masked)
    if isinstance(value, np.ndarray):
        array = np.asarray(value)
        private = isinstance(array.base, bytes)  # which nobody can change
    else:
        try:
            array = _imported(value)
        except ValueError as e:
            raise InvalidValueError(f"{name} must be an array, not {shown(value)}: {shown(e)}") from e
        except Exception as e:
            raise InvalidTypeError(f"{name} must be an array, not {shown(value)}: {shown(e)}") from e
        private = isinstance(value, list | tuple) or isinstance(array.base, bytes)
        array = np.asarray(_unmasked(name, array, masked))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        if array.dtype.name == "bfloat16":
            return array.astype(np.float32), True
        received = shown(value) if array.ndim == 0 else f"dtype {array.dtype.name}"
        raise InvalidTypeError(f"{name} must be an array of numbers, not {received}")
    if not array.dtype.isnative:
        return array.astype(array.dtype.newbyteorder("=")), True
    return array, private


def as_tensor(
    name: str, value: Any, *, ids: bool = False, masked: float | None = None
) -> tuple[NDArray[Any] | DeviceArray, bool]:
    """Return the same as `as_array`, except that an array on a GPU stays there, as a private copy.

    The copy may not have finished yet. Without CuPy, or without room on the GPU, the array is copied to the host.
    `ids`: the values are class ids, and are narrowed to uint16 on the GPU; see `DeviceArray.check_ids`.
    """
    if not isinstance(value, np.ndarray) and _may_be_on_cuda(value):
        with fork.LOCK:  # a child could never import what this thread was importing
            from lumatile_kernels.cuda.tensors import on_cuda, snapshot

        try:
            array = snapshot(value, ids=ids) if on_cuda(value) else None
        except Exception as e:
            raise InvalidTypeError(f"{name} must be an array, not {shown(value)}: {shown(e)}") from e
        if array is not None:
            POOL.pin_with(array.device.pin)  # its copies on the host are made there
            if array.dtype.kind in "biuf":
                return array, True
            raise InvalidTypeError(f"{name} must be an array of numbers, not dtype {array.dtype.name}")
    return as_array(name, value, masked=masked)


def _unmasked(name: str, value: Any, masked: float | None) -> Any:
    """Return a `np.ma` array, or a sequence of such, without its mask; anything else unchanged."""
    ma = sys.modules.get("numpy.ma")
    if ma is None:  # nobody has one
        return value
    if isinstance(value, list | tuple) and any(isinstance(item, ma.MaskedArray) for item in value):
        try:
            value = ma.array([ma.getdata(item) for item in value], mask=[ma.getmaskarray(item) for item in value])
        except ValueError as e:
            raise InvalidValueError(f"{name} must be an array, not {shown(value)}: {shown(e)}") from e
    if not isinstance(value, ma.MaskedArray):
        return value
    if not ma.is_masked(value):
        return value.data
    if masked is None:
        hidden = int(ma.count_masked(value))
        raise InvalidValueError(
            f"{name} must have no masked elements, not {hidden} of {value.size}; give them values: array.filled(...)"
        )
    if np.isnan(masked) and value.dtype.kind != "f":
        value = value.astype(np.float64)
    return value.filled(masked)


def _may_be_on_cuda(value: Any) -> bool:
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) not in HOST
    return hasattr(value, "__cuda_array_interface__")


def frozen(array: NDArray[Any] | DeviceArray, *, private: bool) -> NDArray[Any] | DeviceArray:
    """Return `array` C-contiguous, read-only and private; copy it, into warm memory, unless it is already."""
    if not isinstance(array, np.ndarray):
        return array
    if not private or not array.flags.c_contiguous:
        copy = POOL.take(array.nbytes).view(array.dtype).reshape(array.shape)
        np.copyto(copy, array)
        array = copy
    array.flags.writeable = False
    return array


def _imported(value: Any) -> NDArray[Any]:
    if hasattr(value, "__dlpack__"):
        value = _readable(value)
        try:
            return np.from_dlpack(value)
        except Exception:  # noqa: BLE001, S110 - DLPack has no name for its dtype or layout; __array__ may know one
            pass
    elif hasattr(value, "__cuda_array_interface__"):
        value = _on_host(value)
    return np.asanyarray(value)  # a `np.ma` array keeps its mask


def _readable(value: Any) -> Any:
    """Return `value`, which has __dlpack__, on the host and without the properties that numpy does not know."""
    if hasattr(value, "detach"):  # torch: gradients, lazy negation, bfloat16
        value = value.detach()
        if hasattr(value, "resolve_neg"):
            value = value.resolve_neg()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    if int(value.__dlpack_device__()[0]) not in HOST:
        value = _on_host(value)
    return value


def _on_host(value: Any) -> Any:
    """Return a copy of a device array on the host, made by its own library."""
    for method in ("cpu", "get", "copy_to_host"):  # torch, cupy, numba
        if hasattr(value, method):
            return getattr(value, method)()
    return value
