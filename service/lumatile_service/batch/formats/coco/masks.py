"""The pixels that COCO's annotations cover: polygons, boxes, and run-length encodings (RLE), compressed or not.

The result is that of pycocotools' mask API ("pycocotools/mask.py" and "maskApi.c" of cocodataset/cocoapi): polygons and
boxes are drawn by its `frPyObjects` and joined by its `merge`. The runs of an RLE go down the columns; the first one is
of zeros. They are painted here, since `decode` of pycocotools reads past the end of broken strings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile.errors import InvalidValueError, shown

Runs = NDArray[np.int64]
"""(n,) lengths of runs, of zeros and of ones in turn."""


def check_pycocotools() -> None:
    """Raise InvalidValueError if pycocotools is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ModuleNotFoundError as e:
        raise InvalidValueError("COCO's polygons need pycocotools: install lumatile[batch]") from e


def paint(
    annotations: Sequence[Mapping[str, Any]], values: Sequence[int], height: int, width: int, dtype: str
) -> NDArray[Any]:
    """Return (height, width) of `dtype`, in which the pixels of each annotation have its value, and others 0.

    Annotations that cover fewer pixels are drawn on top; of two that cover equally many, the later one.
    Raises InvalidValueError.
    """
    covered = [runs_of(annotation, height, width) for annotation in annotations]
    areas = [int(runs[1::2].sum()) for runs in covered]
    columns = np.zeros(width * height, dtype)
    for i in sorted(range(len(covered)), key=lambda i: -areas[i]):
        edges = np.cumsum(covered[i]).tolist()
        for start, end in zip(edges[0::2], edges[1::2], strict=False):  # the last run may be of zeros
            columns[start:end] = values[i]
    return np.ascontiguousarray(columns.reshape(width, height).T)


def runs_of(annotation: Mapping[str, Any], height: int, width: int) -> Runs:
    """Return the pixels of an annotation: its segmentation, or without one its box. Raises InvalidValueError."""
    try:
        return _runs(annotation.get("segmentation") or None, annotation.get("bbox"), height, width)
    except InvalidValueError as e:
        raise InvalidValueError(f"annotation {shown(annotation.get('id'))}: {e}") from e


def _runs(segmentation: Any, box: Any, height: int, width: int) -> Runs:
    if segmentation is None:
        return _drawn([_box(box, height, width)], height, width)
    if isinstance(segmentation, list):
        return _drawn([_polygon(each, height, width) for each in segmentation], height, width)
    if isinstance(segmentation, Mapping):
        return _runs_of_rle(segmentation, height, width)
    raise InvalidValueError(f"a segmentation must be polygons or an RLE, not {shown(segmentation)}")


def _drawn(shapes: Sequence[Any], height: int, width: int) -> Runs:
    from pycocotools import mask

    encoded = [each for shape in shapes for each in mask.frPyObjects(shape, height, width)]
    return _checked(_decompressed(mask.merge(encoded)["counts"]), height, width)


def _polygon(points: Any, height: int, width: int) -> list[list[float]]:
    """Return a polygon in the form that `frPyObjects` takes."""
    if not isinstance(points, list) or len(points) < 6 or len(points) % 2:
        raise InvalidValueError(f"a polygon must be at least three pairs x, y, not {shown(points)}")
    return [_inside(points, height, width)]


def _box(box: Any, height: int, width: int) -> NDArray[np.float64]:
    """Return a box in the form that `frPyObjects` takes."""
    if not isinstance(box, list) or len(box) != 4:
        raise InvalidValueError(
            f"an annotation without segmentation must have a bbox x, y, width, height, not {shown(box)}"
        )
    x, y, w, h = _inside(box, height, width)
    _inside([x + w, y + h], height, width)
    return np.array([[x, y, w, h]])


def _inside(points: list[Any], height: int, width: int) -> list[float]:
    """Return the numbers unchanged, if not far outside: the time and memory of drawing depend on them."""
    for i, value in enumerate(points):
        size = (width, height)[i % 2]
        if not isinstance(value, int | float) or not math.isfinite(value) or not -size <= value <= 2 * size:
            raise InvalidValueError(f"coordinates must be within -{size} to {2 * size}, not {shown(value)}")
    return [float(value) for value in points]


def _runs_of_rle(rle: Mapping[str, Any], height: int, width: int) -> Runs:
    if rle.get("size") != [height, width]:
        raise InvalidValueError(f"an RLE must be of the picture's size {[height, width]}, not {shown(rle.get('size'))}")
    counts = rle.get("counts")
    if isinstance(counts, str):
        return _checked(_decompressed(counts.encode()), height, width)
    if not isinstance(counts, list) or any(type(count) is not int for count in counts):
        raise InvalidValueError(f"an RLE's counts must be integers or a string, not {shown(counts)}")
    return _checked(counts, height, width)


def _decompressed(text: bytes) -> list[int]:
    """Return the counts of a compressed RLE, which maskApi.c's rleToString writes.

    A character minus 48 has 5 bits of a number, the lowest first, plus 32 if more follow; the highest bit is the sign.
    From the fourth number on, it is the difference between a count and the one two before it.
    """
    counts: list[int] = []
    number = bits = 0
    for character in text:
        code = character - 48
        if not 0 <= code < 64 or bits > 40:
            raise InvalidValueError(f"the counts of a compressed RLE are broken: {shown(text)}")
        number |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        if code & 16:
            number -= 1 << bits
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        number = bits = 0
    if bits:
        raise InvalidValueError(f"the counts of a compressed RLE are cut off: {shown(text)}")
    return counts


def _checked(counts: list[int], height: int, width: int) -> Runs:
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise InvalidValueError(f"an RLE's counts must not be negative, and be {height * width} together")
    return np.array(counts, np.int64)
