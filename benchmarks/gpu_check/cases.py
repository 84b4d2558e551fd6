"""Calls for which all backends must return the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.frames import (
    HEIGHT_4K,
    HEIGHT_HD,
    METER,
    WIDTH_4K,
    WIDTH_HD,
    cloud,
    extreme_frame,
    random_frame,
    random_palette,
)
from lumatile_kernels.backend import Allocate, Backend, TileFormat

FORMATS: tuple[TileFormat, ...] = ("linear", "srgb8", "rgba32float")

Call = Callable[[Backend, Allocate], list[Any]]
"""Returns an answer per frame or cloud: a list of TileBlock, a PointOrder or a bool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A call, or several that belong together."""

    group: str
    name: str
    call: Call


@dataclass(frozen=True, kw_only=True)
class Scope:
    """A selection of cases."""

    shapes: tuple[tuple[int, int], ...]
    """The (height, width) of images of all dtypes, channels and formats, of depth and of ids."""
    image_dtypes: tuple[str, ...] = ("u1", "u2", "f2", "f4", "f8")
    channels: tuple[int, ...] = (1, 3, 4)
    formats: tuple[TileFormat, ...] = FORMATS
    depth_dtypes: tuple[str, ...] = ("u1", "u2", "f2", "f4", "f8")
    meters: tuple[float, ...] = (METER, 1.0, 0.3, 1e-30, 1e30)
    id_dtypes: tuple[str, ...] = ("u1", "u2")
    clouds: tuple[int, ...] = (1, 2, 1000, 65_536, 65_537, 300_000)
    """The numbers of points of clouds."""
    axes: tuple[int, ...] = (2, 3)
    cloud_dtypes: tuple[str, ...] = ("f4", "f8")
    large: bool = True
    """Whether to include frames of 4K."""


EDGES = ((1, 1), (1, 2), (2, 1), (3, 3), (63, 65), (255, 255), (256, 256), (257, 257), (255, 257), (300, 517))
FULL = Scope(
    shapes=(
        *EDGES,
        (1, 4096),
        (4096, 1),
        (1, 20_000),
        (20_000, 1),
        (511, 513),
        (3, 1025),
        (1024, 3),
        (700, 1100),
        (HEIGHT_HD, WIDTH_HD),
    )
)
QUICK = Scope(
    shapes=((1, 1), (63, 65), (255, 257), (1, 16_500)), meters=(METER, 1e30), clouds=(1, 2, 3000, 65_537), large=False
)


def cases(scope: Scope) -> Iterator[Case]:
    """Yield all cases of a scope; each holds its arrays, so release one before the next."""
    yield from _images(scope)
    yield from _alphas(scope)
    yield from _depths(scope)
    yield from _segmentations(scope)
    yield from _clouds(scope)
    yield from _batches(scope)
    if scope.large:
        yield from _large()


def _image(frame: NDArray[Any], tile_format: TileFormat, backend: Backend, allocate: Allocate) -> list[Any]:
    return [list(backend.image(frame, tile_format=tile_format, allocate=allocate))]


def _depth(frame: NDArray[Any], meter: float, backend: Backend, allocate: Allocate) -> list[Any]:
    return [list(backend.depth(frame, meter=meter, allocate=allocate))]


def _segmentation(frame: NDArray[Any], palette: NDArray[np.uint8], backend: Backend, allocate: Allocate) -> list[Any]:
    return [list(backend.segmentation(frame, palette=palette, allocate=allocate))]


def _points(positions: NDArray[Any], backend: Backend, _allocate: Allocate) -> list[Any]:
    return [backend.points(positions)]


def _is_opaque(image: NDArray[Any], backend: Backend, _allocate: Allocate) -> list[Any]:
    return [backend.is_opaque(image)]


def _images(scope: Scope) -> Iterator[Case]:
    kinds = product(scope.shapes, scope.image_dtypes, scope.channels, scope.formats)
    for seed, ((height, width), dtype, channels, tile_format) in enumerate(kinds):
        frame = extreme_frame((height, width, channels), dtype, seed)
        name = f"{height}x{width}x{channels} {dtype}, {tile_format}"
        yield Case(group="images", name=name, call=partial(_image, frame, tile_format))


def _alphas(scope: Scope) -> Iterator[Case]:
    """Yield images whose alpha is opaque, transparent, translucent in one texel, or outside of [0, 1]."""
    if 4 not in scope.channels:
        return
    for dtype, tile_format in product(scope.image_dtypes, scope.formats):
        frame = random_frame((130, 270, 4), dtype, 1)
        top = np.array(1).astype(dtype) if frame.dtype.kind == "f" else frame.dtype.type(np.iinfo(dtype).max)
        alphas: dict[str, Any] = {"opaque": top, "transparent": frame.dtype.type(0)}
        if frame.dtype.kind == "f":
            alphas |= {
                "above 1": frame.dtype.type(7),
                "negative": frame.dtype.type(-1),
                "NaN": frame.dtype.type(np.nan),
            }
        for name, alpha in alphas.items():
            one = frame.copy()
            one[..., 3] = alpha
            yield Case(group="alpha", name=f"{dtype} {name}, {tile_format}", call=partial(_image, one, tile_format))
    image = random_frame((321, 123, 4), "u1", 2)
    for name, alpha in (("opaque", 255), ("translucent", 254)):
        for texel in ((0, 0), (200, 100), (320, 122)):
            one = image.copy()
            one[..., 3] = 255
            one[(*texel, 3)] = alpha
            yield Case(group="alpha", name=f"is_opaque, {name} at {texel}", call=partial(_is_opaque, one))


def _depths(scope: Scope) -> Iterator[Case]:
    for seed, (shape, dtype, meter) in enumerate(product(scope.shapes, scope.depth_dtypes, scope.meters)):
        frame = extreme_frame(shape, dtype, seed)
        name = f"{shape[0]}x{shape[1]} {dtype}, meter {meter:g}"
        yield Case(group="depth", name=name, call=partial(_depth, frame, meter))
    for dtype in scope.depth_dtypes:
        nothing = np.zeros((257, 300), dtype)
        yield Case(group="depth", name=f"{dtype}, nothing valid", call=partial(_depth, nothing, METER))


def _segmentations(scope: Scope) -> Iterator[Case]:
    for seed, (shape, dtype, classes) in enumerate(product(scope.shapes, scope.id_dtypes, (3, 1 << 16))):
        ids = extreme_frame(shape, dtype, seed)
        ids %= ids.dtype.type(min(classes, np.iinfo(dtype).max))
        palette = random_palette(1 << 8 * ids.dtype.itemsize, seed)
        name = f"{shape[0]}x{shape[1]} {dtype}, {classes} classes"
        yield Case(group="segmentation", name=name, call=partial(_segmentation, ids, palette))


def _clouds(scope: Scope) -> Iterator[Case]:
    kinds = product(scope.clouds, scope.axes, scope.cloud_dtypes)
    for seed, (points, axes, dtype) in enumerate(kinds):
        for name, positions in _clouds_of(points, axes, dtype, seed):
            title = f"{points} x {axes} {dtype}, {name}"
            yield Case(group="points", name=title, call=partial(_points, positions))


def _clouds_of(points: int, axes: int, dtype: str, seed: int) -> Iterator[tuple[str, NDArray[Any]]]:
    rng = np.random.default_rng(seed)
    normal = cloud(points, axes, dtype, seed)
    yield "normal", normal
    holes = normal.copy()
    holes[rng.random(holes.shape) < 0.1] = np.nan
    holes[rng.random(holes.shape) < 0.1] = -np.inf
    yield "not all finite", holes
    if points > 100_000:
        return
    yield "none finite", np.full_like(normal, np.inf)
    yield "all the same", np.full_like(normal, -0.0)
    yield "duplicates", normal[rng.integers(0, max(1, points // 50), points)]
    yield "subnormal extent", (normal * normal.dtype.type(1e-39)).astype(dtype)
    yield "tiny extent", (normal * normal.dtype.type(2**-104)).astype(dtype)
    yield "far away", (normal + normal.dtype.type(1e7)).astype(dtype)
    with np.errstate(over="ignore"):
        yield "huge", (normal * normal.dtype.type(3e37)).astype(dtype)


def _batches(scope: Scope) -> Iterator[Case]:
    """Yield cases with frames that are requested before the first of their blocks is taken."""
    orders: dict[str, Callable[[list[Any]], list[Any]]] = {
        "in order": _in_order,
        "backwards": _backwards,
        "in turns": _in_turns,
    }
    dtype, tile_format = scope.image_dtypes[0], scope.formats[0]
    small = [random_frame((70, 90, 3), dtype, seed) for seed in range(70)]
    mixed = [random_frame((*scope.shapes[i // 2 % len(scope.shapes)], 3), dtype, i) for i in range(12)]
    depths = [random_frame((33, 47), scope.depth_dtypes[0], seed) for seed in range(40)]
    ids = [random_frame((300, 300), scope.id_dtypes[0], seed) for seed in range(40)]
    palettes = [random_palette(1 << 8 * ids[0].dtype.itemsize, seed) for seed in range(3)]

    def images(frames: list[NDArray[Any]], backend: Backend, allocate: Allocate) -> list[Any]:
        return [backend.image(frame, tile_format=tile_format, allocate=allocate) for frame in frames]

    def kinds(backend: Backend, allocate: Allocate) -> list[Any]:
        """Request kinds and palettes in turns, so that each call begins another batch."""
        asked: list[Any] = []
        for i in range(10):
            asked += images(small[i : i + 2], backend, allocate)
            asked.append(backend.depth(depths[i], meter=METER, allocate=allocate))
            asked.append(backend.segmentation(ids[i], palette=palettes[i % 3], allocate=allocate))
        return asked

    asks: dict[str, Call] = {
        "70 images": partial(images, small),
        "12 images of several shapes": partial(images, mixed),
        "40 depth frames": lambda backend, allocate: [
            backend.depth(frame, meter=METER, allocate=allocate) for frame in depths
        ],
        "40 segmentations": lambda backend, allocate: [
            backend.segmentation(frame, palette=palettes[0], allocate=allocate) for frame in ids
        ],
        "kinds in turns": kinds,
    }
    for (name, ask), (order, take) in product(asks.items(), orders.items()):
        yield Case(group="batches", name=f"{name}, taken {order}", call=partial(_asked_ahead, ask, take))


def _asked_ahead(ask: Call, take: Callable[[list[Any]], list[Any]], backend: Backend, allocate: Allocate) -> list[Any]:
    return take(ask(backend, allocate))


def _in_order(asked: list[Any]) -> list[Any]:
    return [list(blocks) for blocks in asked]


def _backwards(asked: list[Any]) -> list[Any]:
    return [list(blocks) for blocks in reversed(asked)][::-1]


def _in_turns(asked: list[Any]) -> list[Any]:
    """Take one block of each frame in turns."""
    taken: list[list[Any]] = [[] for _ in asked]
    left = list(range(len(asked)))
    while left:
        for i in list(left):
            block = next(asked[i], None)
            if block is None:
                left.remove(i)
            else:
                taken[i].append(block)
    return taken


def _large() -> Iterator[Case]:
    shape = (HEIGHT_4K, WIDTH_4K)
    scope = Scope(shapes=(shape,), image_dtypes=("u1",), channels=(3,), depth_dtypes=("u2", "f4"), meters=(METER,))
    yield from _images(scope)
    yield from _images(replace(scope, image_dtypes=("u2", "f4"), channels=(4,), formats=("linear",)))
    yield from _depths(scope)
    yield from _segmentations(replace(scope, id_dtypes=("u1",)))
    frames = [random_frame((*shape, 3), "u1", seed) for seed in range(4)]

    def images(backend: Backend, allocate: Allocate) -> list[Any]:
        return [backend.image(frame, allocate=allocate) for frame in frames]

    yield Case(group="batches", name="4 images of 4K, taken in turns", call=partial(_asked_ahead, images, _in_turns))
