"""The backend on a GPU: the same bytes as numpy's.

Calls are collected: frames of one kind and shape that are asked for one after another, before the first of their
blocks is wanted, become one launch. What does not fit the device, or meets a device that has failed, is computed on
the host instead; blocks are the same wherever they are made, so that can happen in the middle of a frame.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels import tables
from lumatile_kernels.backend import (
    Allocate,
    Backend,
    BackendName,
    OffHost,
    PointOrder,
    TileBlock,
    TileFormat,
    allocate_array,
)
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.batch import Batch, Streams, Work
from lumatile_kernels.cuda.opaque import is_opaque
from lumatile_kernels.cuda.passes import MAX_FRAMES
from lumatile_kernels.cuda.points import device_bytes, order_points
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.cuda.sources import depth_kernel, image_kernel, segmentation_kernel
from lumatile_kernels.device import Device, DeviceError, DeviceMemoryError, Memory
from lumatile_kernels.pyramid import depth_plan, image_plan, segmentation_plan

log = logging.getLogger(__name__)

BATCH_BYTES = 128 << 20
"""Device memory of a batch, unless a single frame takes more."""

DEVICE_BYTES = 4 << 30
"""Device memory that a frame or a cloud may take; larger ones are computed on the host."""

PALETTES = 16
"""Palettes that are kept on the device."""

Array = NDArray[Any] | DeviceArray


class CudaBackend:
    """Fused kernels on a GPU; see `Backend`."""

    name: BackendName = "cuda"
    ahead_bytes = BATCH_BYTES

    def __init__(self, device: Device, make_host: Callable[[], Backend], *, device_bytes: int = DEVICE_BYTES) -> None:
        """Compute on `device`.

        Args:
            device: the GPU.
            make_host: returns the backend that computes on the host; called at the first use of it.
            device_bytes: the device memory, in bytes, that a frame or a cloud may take.
        """
        self.device = device
        self._make_host = make_host
        self.fallbacks = 0
        """Frames and clouds that were computed on the host."""
        self._device_bytes = device_bytes
        self._streams = Streams(device)
        self._slots = Slots(device)
        self._constants: dict[int, tuple[NDArray[Any], Memory]] = {}
        """Tables on the device, by the id of the one here."""
        self._palettes: dict[bytes, Memory] = {}
        """Palettes on the device, by their bytes."""
        self._waiting: list[_Frame] = []
        """Frames of one Work that have not been started."""
        self._failed = ""
        """Why the device is not used any more; empty while it is."""
        self._said = False
        """That there is no room."""

    @cached_property
    def _host(self) -> Backend:
        """The backend that computes on the host."""
        return self._make_host()

    def admit(self, array: NDArray[Any] | OffHost, allocate: Allocate = allocate_array) -> Any:
        """See Backend: what is on this device stays there."""
        here = isinstance(array, DeviceArray) and array.device is self.device and not self._failed
        return array if here or isinstance(array, np.ndarray) else array.host(allocate)

    def is_opaque(self, image: Array) -> bool:
        """See Backend."""
        if isinstance(image, np.ndarray):
            return self._host.is_opaque(image)
        if not self._failed:
            try:
                return is_opaque(image, self._slots, self._streams.compute)
            except DeviceError as e:
                self._give_way(e)
        return self._host.is_opaque(image.host())

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """See Backend."""
        return self.device.pin(memory)

    def image(
        self, image: Array, *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Plane `pixels` of an image."""
        channels = image.shape[2]
        low, high = tables.COLOR_LIMITS[tile_format]
        needed: dict[str, NDArray[Any]] = {"buckets": tables.srgb_buckets()}
        if image.dtype.kind == "u":
            needed |= {"light": tables.srgb_to_linear(image.dtype), "halves": tables.srgb_to_half(image.dtype)}
        work = Work(
            plan=image_plan(tile_format, channels),
            shape=image.shape,
            dtype=image.dtype,
            kernel=image_kernel(image.dtype, channels, tile_format),
            carried_kernel=image_kernel(np.dtype(np.float32), channels, tile_format, carried=True),
            fields=(("low", float(low)), ("high", float(high))),
        )
        on_host = partial(self._host_blocks, image, "image", tile_format=tile_format, allocate=allocate)
        return self._add(image, work, needed, allocate, on_host)

    def depth(self, depth: Array, *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Plane `pixels` of a depth image."""
        work = Work(
            plan=depth_plan(),
            shape=depth.shape,
            dtype=depth.dtype,
            kernel=depth_kernel(depth.dtype),
            carried_kernel=depth_kernel(np.dtype(np.float32), carried=True),
            fields=(("meter", float(np.float32(meter))),),
        )
        on_host = partial(self._host_blocks, depth, "depth", meter=meter, allocate=allocate)
        return self._add(depth, work, {}, allocate, on_host)

    def segmentation(
        self, ids: Array, *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Planes `ids` and `colors` of a segmentation."""
        kernel = segmentation_kernel(ids.dtype)
        work = Work(
            plan=segmentation_plan(ids.dtype),
            shape=ids.shape,
            dtype=ids.dtype,
            kernel=kernel,
            carried_kernel=kernel,
            fields=(),
        )
        on_host = partial(self._host_blocks, ids, "segmentation", palette=palette, allocate=allocate)
        return self._add(ids, work, {"palette": palette}, allocate, on_host)

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Origin, Morton order and levels of a cloud."""
        if len(positions) and not self._failed:
            try:
                self._check_size(device_bytes(positions))
                return order_points(self.device, self._slots, self._streams.compute, positions)
            except DeviceError as e:
                self._give_way(e)
        self.fallbacks += bool(len(positions))
        return self._host.points(positions)

    # frames

    def _add(
        self,
        array: Array,
        work: Work,
        needed: dict[str, NDArray[Any]],
        allocate: Allocate,
        on_host: Callable[[], Iterator[TileBlock]],
    ) -> Iterator[TileBlock]:
        if not all(array.shape):
            return iter(())
        if self._failed:
            return on_host()
        try:
            work = work.with_tables({name: self._on_device(table) for name, table in needed.items()})
        except DeviceError as e:
            self._give_way(e)
            return on_host()
        frame = _Frame(array=array, work=work, allocate=allocate)
        if self._waiting and self._waiting[0].work != work:
            self._start()
        self._waiting.append(frame)
        if len(self._waiting) >= self._frames_of_a_batch(work):
            self._start()
        return self._blocks(frame, on_host)

    def _blocks(self, frame: _Frame, on_host: Callable[[], Iterator[TileBlock]]) -> Iterator[TileBlock]:
        given = 0
        if any(f is frame for f in self._waiting):
            self._start()
        try:
            while frame.batch is not None and (block := frame.batch.next_block(frame.number)) is not None:
                yield block
                given += 1
        except DeviceError as e:
            self._give_way(e)
        else:
            if frame.batch is not None:
                return
        yield from islice(on_host(), given, None)

    def _host_blocks(self, array: Array, method: str, **options: Any) -> Iterator[TileBlock]:
        self.fallbacks += 1
        on_host = array.host() if isinstance(array, DeviceArray) else array
        return getattr(self._host, method)(on_host, **options)  # type: ignore[no-any-return]

    def _start(self) -> None:
        frames, self._waiting = self._waiting, []
        self._start_batch(frames)

    def _start_batch(self, frames: Sequence[_Frame], *, again: bool = False) -> None:
        """Start frames together, or in halves where the device has no room for all.

        A frame that it has no room for even alone is left without a batch.
        """
        if self._failed:
            return
        try:
            batch = self._batch(frames)
        except DeviceMemoryError as e:
            freed = self._slots.clear()
            if len(frames) > 1:
                middle = len(frames) // 2
                self._start_batch(frames[:middle])
                self._start_batch(frames[middle:])
            elif freed and not again:
                self._start_batch(frames, again=True)
            else:
                self._give_way(e)
        except DeviceError as e:
            self._give_way(e)
        else:
            for number, frame in enumerate(frames):
                frame.batch, frame.number = batch, number

    def _batch(self, frames: Sequence[_Frame]) -> Batch:
        work = frames[0].work
        self._check_size(work.device_bytes(1))
        return Batch(self._streams, self._slots, work, [f.array for f in frames], [f.allocate for f in frames])

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self._device_bytes:
            raise DeviceMemoryError(f"it takes {nbytes} bytes of device memory, and may take {self._device_bytes}")

    def _frames_of_a_batch(self, work: Work) -> int:
        return max(1, min(MAX_FRAMES, BATCH_BYTES // work.device_bytes(1)))

    def _give_way(self, error: DeviceError) -> None:
        """Say, once, that the host takes over: for what does not fit, or, where the device has failed, for good."""
        if not isinstance(error, DeviceMemoryError) and not self._failed:
            self._failed = str(error)
            self._waiting = []
            log.error("%s has failed, the %s backend takes over: %s", self.device.name, self._host.name, self._failed)
        elif not self._said and not self._failed:
            self._said = True
            log.warning(
                "%s has no room, the %s backend takes what does not fit (said once): %s",
                self.device.name,
                self._host.name,
                str(error),  # a handler that keeps records would keep the memory of those who raised it
            )

    # tables

    def _on_device(self, table: NDArray[Any]) -> Memory:
        """A table's device memory. Those of `tables` are kept, and palettes while they are among the last."""
        if table.dtype != np.uint8:
            if id(table) not in self._constants:
                self._constants[id(table)] = table, self._streams.on_device(table)
            return self._constants[id(table)][1]
        content = table.tobytes()
        if content not in self._palettes:
            self._palettes[content] = self._streams.on_device(table)
            if len(self._palettes) > PALETTES:
                del self._palettes[next(iter(self._palettes))]
        return self._palettes[content]


@dataclass(kw_only=True, eq=False)
class _Frame:
    """A frame that was asked for."""

    array: Array
    work: Work
    allocate: Allocate
    batch: Batch | None = None
    """What it was started in; None: not yet, or not on the device."""
    number: int = 0
    """Its place in the batch."""
