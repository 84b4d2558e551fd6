"""Images, depth images and segmentations: from the caller's array to the content of a LoggedValue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lumatile.content.arrays import as_tensor, frozen
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.values import Content

if TYPE_CHECKING:
    from lumatile_kernels.cuda.arrays import DeviceArray

COLOR_DTYPES = {np.dtype(name): name for name in ("uint8", "uint16", "float16", "float32", "float64")}
"""The dtypes of images and depth images, with their names: numpy makes a dtype's name anew each time."""

MAX_EDGE = 2**31 - 1
"""The longest edge of an image, in texels: tile sizes are 32-bit."""

PIL_AS_THEY_ARE = ("L", "RGB", "RGBA", "I;16", "I", "F")
"""Modes of PIL images whose arrays this package reads rightly, without a conversion."""


def image_content(image: Any) -> Content:
    """Return the content of a gray, RGB or RGBA image: HxW, HxWx1, HxWx3 or HxWx4, of `COLOR_DTYPES`.

    Leading axes of length 1 are dropped while there are more than three axes, and once more at three axes if the last
    is not 1, 3 or 4. Raises InvalidValueError or InvalidTypeError.
    """
    array, private = as_tensor("image", _converted(image))
    _check_dtype("image", array)
    shape = array.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) == 3 and shape[0] == 1 and shape[2] not in (1, 3, 4):
        shape = shape[1:]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] not in (1, 3, 4):
        raise InvalidValueError(f"image must be HxW, HxWx1, HxWx3 or HxWx4, not {array.shape}{_advice(shape)}")
    return _content(array, shape, private=private)


def depth_content(image: Any, meter: Any) -> Content:
    """Return the content of a depth image: HxW, of `COLOR_DTYPES`.

    `meter`: units of the image per metre; None: 1000 for integers, 1 for floats.
    Raises InvalidValueError or InvalidTypeError.
    """
    array, private = as_tensor("depth image", image)
    _check_dtype("depth image", array)
    if array.ndim != 2:
        squeeze = "; squeeze it" if sum(n != 1 for n in array.shape) == 2 else ""
        raise InvalidValueError(f"depth image must be HxW, not {array.shape}{squeeze}")
    content = _content(array, array.shape, private=private)
    content["meter"] = units_per_metre(meter, array.dtype)
    return content


def units_per_metre(meter: Any, dtype: np.dtype[Any]) -> float:
    """Return `meter` as a number, or the default for a depth image of `dtype` if it is None.

    Raises InvalidValueError unless it is finite and > 0 as float32.
    """
    if meter is None:
        return 1.0 if dtype.kind == "f" else 1000.0
    rule = "meter must be a number, finite and > 0 as float32"
    if isinstance(meter, str | bytes):
        raise InvalidTypeError(f"{rule}, not {shown(meter)}")
    try:
        number = float(meter)
    except Exception as e:
        raise InvalidTypeError(f"{rule}, not {shown(meter)}") from e
    with np.errstate(over="ignore"):
        single = np.float32(number)
    if not (math.isfinite(single) and single > 0):
        raise InvalidValueError(f"{rule}, not {shown(meter)}")
    return number


def segmentation_content(image: Any, *, strict: bool = False) -> Content:
    """Return the content of class ids: HxW or HxWx1, uint8 or uint16, or booleans or integers that fit in uint16.

    Wider integers on a GPU are checked later, when tiles are made of them; `strict`: in this call, which waits for the
    GPU.
    Raises InvalidValueError or InvalidTypeError.
    """
    array, private = as_tensor("segmentation image", image, ids=True)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 1):
        raise InvalidValueError(f"segmentation image must be HxW or HxWx1, not {array.shape}")
    if array.dtype.kind == "f":
        raise InvalidTypeError(f"segmentation image must be of integers, not dtype {array.dtype.name}")
    ids: NDArray[Any] | DeviceArray
    logged = array.dtype
    if isinstance(array, np.ndarray):
        ids = as_uint16("class ids", array)
    else:
        ids = array.view(np.dtype(np.uint8)) if array.dtype == np.bool_ else array
        logged = array.narrowed_from or logged
        if strict:
            _check_ids(array)
    content = _content(ids, array.shape[:2], private=private or ids is not array)
    content["source_shape"], content["source_dtype"] = array.shape, logged.name
    return content


def _check_ids(array: DeviceArray) -> None:
    try:
        array.check_ids()
    except ValueError as e:
        raise InvalidValueError(str(e)) from e


def as_uint16(name: str, integers: NDArray[Any]) -> NDArray[Any]:
    """Return `integers` (or booleans) as uint16, or as uint8 if that holds all values of their dtype.

    Raises InvalidValueError with the first value found that does not fit.
    """
    if integers.dtype in (np.uint8, np.uint16):
        return integers
    if integers.size:
        for value in (integers.min(), integers.max()):
            if not 0 <= value <= 65535:
                raise InvalidValueError(f"{name} must be 0 to 65535, not {value}")
    return integers.astype(np.uint8 if integers.dtype.itemsize == 1 else np.uint16)


def _content(array: NDArray[Any] | DeviceArray, shape: tuple[int, ...], *, private: bool) -> Content:
    if max(shape) > MAX_EDGE:
        raise InvalidValueError(f"no edge may be longer than {MAX_EDGE} texels, not {shape}")
    return {
        "array": frozen(array, private=private).reshape(shape),
        "source_shape": array.shape,
        "source_dtype": COLOR_DTYPES.get(array.dtype) or array.dtype.name,
    }


def _check_dtype(name: str, array: NDArray[Any] | DeviceArray) -> None:
    if array.dtype not in COLOR_DTYPES:
        raise InvalidTypeError(f"{name} must be of dtype {', '.join(COLOR_DTYPES.values())}, not {array.dtype.name}")


def _converted(image: Any) -> Any:
    """Return a PIL image in a mode whose array is gray, RGB or RGBA; anything else unchanged."""
    if not type(image).__module__.startswith("PIL.") or image.mode in PIL_AS_THEY_ARE:
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; channels come last: image.transpose(1, 2, 0), with torch image.permute(1, 2, 0)"
    return "; log the images of a batch one by one" if len(shape) == 4 else ""
