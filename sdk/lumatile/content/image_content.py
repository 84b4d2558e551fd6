"""Images, depth images and segmentations: from the caller's array to the content of a LoggedValue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lumatile.content.arrays import as_array, as_tensor, dtype_name, frozen
from lumatile.content.bright_floats import hint_at_bright_floats
from lumatile.content.pil_images import array_of_numbers, array_of_picture
from lumatile.errors import InvalidTypeError, InvalidValueError, shown
from lumatile.values import Content

if TYPE_CHECKING:
    from lumatile_kernels.cuda.arrays import DeviceArray

COLOR_DTYPES = {np.dtype(name): name for name in ("uint8", "uint16", "float16", "float32", "float64")}
"""The dtypes of images and depth images, with their names: numpy makes a dtype's name anew each time."""

NO_DEPTH = 0
"""The depth of a masked element: there is none."""

MAX_EDGE = 2**31 - 1
"""The longest edge of an image, in texels: tile sizes are 32-bit."""


def image_content(image: Any) -> Content:
    """Return the content of a gray, RGB or RGBA image: HxW, HxWx1, HxWx3 or HxWx4, of `COLOR_DTYPES`.

    Leading axes of length 1 are dropped while there are more than three axes, and once more at three axes if the last
    is not 1, 3 or 4. Raises InvalidValueError or InvalidTypeError.
    """
    array, private = as_tensor("image", array_of_picture(image))
    _check_dtype("image", array, "; values of 0-255: astype(np.uint8)")
    shape = array.shape
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) == 3 and shape[0] == 1 and shape[2] not in (1, 3, 4):
        shape = shape[1:]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] not in (1, 3, 4):
        raise InvalidValueError(f"image must be HxW, HxWx1, HxWx3 or HxWx4, not {array.shape}{_advice(shape)}")
    content = _content(array, shape, private=private)
    if isinstance(content["array"], np.ndarray):
        hint_at_bright_floats(content["array"])
    return content


def depth_content(image: Any, meter: Any) -> Content:
    """Return the content of a depth image: HxW, of `COLOR_DTYPES`, with axes of length 1 as in `_plane`.

    Masked elements of a `np.ma` array are "no depth".
    `meter`: units of the image per metre; None: 1000 for integers, 1 for floats.
    Raises InvalidValueError or InvalidTypeError.
    """
    array, private = as_tensor("depth image", array_of_numbers(image), masked=NO_DEPTH)
    _check_dtype("depth image", array, "; integers of 16 bits: astype(np.uint16)")
    content = _content(array, _plane("depth image", array.shape), private=private)
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
    """Return the content of class ids: HxW, uint8 or uint16, or booleans, integers or floats that fit in uint16.

    Axes of length 1 are dropped as in `_plane`. Wider integers on a GPU are checked later, when tiles are made of them;
    `strict`: in this call, which waits for the GPU.
    Raises InvalidValueError or InvalidTypeError.
    """
    name = "segmentation image"
    image = array_of_numbers(image)
    array, private = as_tensor(name, image, ids=True)
    shape = _plane(name, array.shape)
    logged = array.dtype
    if not isinstance(array, np.ndarray) and logged.kind == "f":
        array, private = as_array(name, image)
    ids: NDArray[Any] | DeviceArray
    if isinstance(array, np.ndarray):
        ids = as_uint16("class ids", ids_of_floats("class ids", array) if logged.kind == "f" else array)
    else:
        ids = array.view(np.dtype(np.uint8)) if array.dtype == np.bool_ else array
        logged = array.narrowed_from or logged
        if strict:
            _check_ids(array)
    content = _content(ids, shape, private=private or ids is not array)
    content["source_shape"], content["source_dtype"] = array.shape, dtype_name(logged)
    return content


def _plane(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a plane, (h, w): without leading axes of length 1, and without a last one (HxWx1).

    Raises InvalidValueError for another shape.
    """
    plane = shape
    while len(plane) > 3 and plane[0] == 1:
        plane = plane[1:]
    if len(plane) == 3 and plane[2] == 1:
        plane = plane[:2]
    elif len(plane) == 3 and plane[0] == 1:
        plane = plane[1:]
    if len(plane) != 2:
        raise InvalidValueError(f"{name} must be HxW, HxWx1 or 1xHxW, not {shape}")
    return plane


def ids_of_floats(name: str, floats: NDArray[Any]) -> NDArray[np.uint16]:
    """Return ids that are floats as uint16. Raises InvalidTypeError with one that is no integer of 16 bits."""
    with np.errstate(invalid="ignore"):
        ids = floats.astype(np.uint16)
    wrong = ids != floats
    if wrong.any():
        raise InvalidTypeError(
            f"{name} must be integers from 0 to 65535, not {floats[wrong][0]} (of dtype {floats.dtype.name}; "
            "probabilities and logits need argmax)"
        )
    return ids


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


def _check_dtype(name: str, array: NDArray[Any] | DeviceArray, hint: str) -> None:
    """Raise InvalidTypeError for a dtype that is not in `COLOR_DTYPES`, with a hint for integers and booleans."""
    if array.dtype not in COLOR_DTYPES:
        names = ", ".join(COLOR_DTYPES.values())
        hint = hint if array.dtype.kind in "biu" else ""
        raise InvalidTypeError(f"{name} must be of dtype {names}, not {array.dtype.name}{hint}")


def _advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "; channels come last: image.transpose(1, 2, 0), with torch image.permute(1, 2, 0)"
    if len(shape) == 4:
        return "; drop the last axis: image[..., 0]" if shape[3] == 1 else "; log the images of a batch one by one"
    return ""
