"""The backend on a GPU: the same bytes as the numpy backend.

Calls are collected: frames of one kind and shape that are requested one after another, before the first of their blocks
is taken, become one launch. Frames that do not fit the device, and all frames after the device has failed, are computed
on the host instead. Blocks do not depend on where they are made, so this can happen in the middle of a frame.
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
from lumatile_kernels.cuda.batch import Batch
from lumatile_kernels.cuda.device_tables import DeviceTables
from lumatile_kernels.cuda.opaque import is_opaque
from lumatile_kernels.cuda.points import device_bytes, order_points
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.cuda.streams import DeviceStreams
from lumatile_kernels.cuda.work import BATCH_BYTES, Array, Planner, Work, frames_of_a_batch
from lumatile_kernels.device import Device, DeviceError, DeviceMemoryError

log = logging.getLogger(__name__)

DEVICE_BYTES = 4 << 30
"""The device memory, in bytes, that a frame or a cloud may take; larger ones are computed on the host."""


class CudaBackend:
    """The backend that runs fused kernels on a GPU; see `Backend`."""

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
        """The number of frames and clouds that were computed on the host."""
        self._device_bytes = device_bytes
        self._streams = DeviceStreams(device)
        self._slots = Slots(device)
        self._planner = Planner(DeviceTables(self._streams))
        self._waiting: list[_Frame] = []
        """Frames with equal work that have not been started."""
        self._failed = ""
        """The reason why the device is no longer used; empty while it is used."""
        self._told = False
        """Whether the lack of room has been logged."""

    @cached_property
    def _host(self) -> Backend:
        """The backend that computes on the host."""
        return self._make_host()

    def admit(self, array: NDArray[Any] | OffHost, allocate: Allocate = allocate_array) -> Any:
        """Return `array`, or a copy on the host unless it is on this device; see `Backend.admit`."""
        here = isinstance(array, DeviceArray) and array.device is self.device and not self._failed
        return array if here or isinstance(array, np.ndarray) else array.host(allocate)

    def is_opaque(self, image: Array) -> bool:
        """Return whether every pixel has the alpha 255; see `Backend.is_opaque`."""
        if isinstance(image, np.ndarray):
            return self._host.is_opaque(image)
        if not self._failed:
            try:
                return is_opaque(image, self._slots, self._streams.compute)
            except DeviceError as e:
                self._give_way(e)
        return self._host.is_opaque(image.host())

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """Lock host memory in place, and return the function that undoes it; see `Backend.pin`."""
        return self.device.pin(memory)

    def image(
        self, image: Array, *, tile_format: TileFormat = "linear", allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return plane `pixels` of an image; see `Backend.image`."""
        return self._add(
            image,
            partial(self._planner.image, image, tile_format=tile_format),
            allocate,
            lambda: self._host.image(self._taken_over(image), tile_format=tile_format, allocate=allocate),
        )

    def depth(self, depth: Array, *, meter: float, allocate: Allocate = allocate_array) -> Iterator[TileBlock]:
        """Return plane `pixels` of a depth image; see `Backend.depth`."""
        return self._add(
            depth,
            partial(self._planner.depth, depth, meter=meter),
            allocate,
            lambda: self._host.depth(self._taken_over(depth), meter=meter, allocate=allocate),
        )

    def segmentation(
        self, ids: Array, *, palette: NDArray[np.uint8], allocate: Allocate = allocate_array
    ) -> Iterator[TileBlock]:
        """Return planes `ids` and `colors` of a segmentation; see `Backend.segmentation`."""
        return self._add(
            ids,
            partial(self._planner.segmentation, ids, palette=palette),
            allocate,
            lambda: self._host.segmentation(self._taken_over(ids), palette=palette, allocate=allocate),
        )

    def points(self, positions: NDArray[Any]) -> PointOrder:
        """Return the order of a cloud; see `Backend.points`."""
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
        plan: Callable[[], Work],
        allocate: Allocate,
        on_host: Callable[[], Iterator[TileBlock]],
    ) -> Iterator[TileBlock]:
        """Return the blocks of `array`, from the device by the work that `plan` returns, or from `on_host`."""
        if not all(array.shape):
            return iter(())
        if self._failed:
            return on_host()
        try:
            work = plan()
        except DeviceError as e:
            self._give_way(e)
            return on_host()
        frame = _Frame(array=array, work=work, allocate=allocate)
        if self._waiting and self._waiting[0].work != work:
            self._start()
        self._waiting.append(frame)
        if len(self._waiting) >= frames_of_a_batch(work):
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

    def _taken_over(self, array: Array) -> NDArray[Any]:
        """Return an array in the host's memory, of a frame that the host computes."""
        self.fallbacks += 1
        return array.host() if isinstance(array, DeviceArray) else array

    def _start(self) -> None:
        frames, self._waiting = self._waiting, []
        self._start_batch(frames)

    def _start_batch(self, frames: Sequence[_Frame], *, again: bool = False) -> None:
        """Start frames together, or in halves if the device does not have room for all.

        A frame that does not fit even when it is the only one is left without a batch.
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
            raise DeviceMemoryError(f"it needs {nbytes} bytes of device memory, and {self._device_bytes} are allowed")

    def _give_way(self, error: DeviceError) -> None:
        """Log, once, that the host takes over: for what does not fit, or permanently if the device has failed."""
        if not isinstance(error, DeviceMemoryError) and not self._failed:
            self._failed = str(error)
            self._waiting = []
            log.error("%s has failed, the %s backend takes over: %s", self.device.name, self._host.name, self._failed)
        elif not self._told and not self._failed:
            self._told = True
            log.warning(
                "%s has no room, the %s backend takes what does not fit (logged once): %s",
                self.device.name,
                self._host.name,
                str(error),  # not the error itself: a handler that keeps records would keep the memory of its frames
            )


@dataclass(kw_only=True, eq=False)
class _Frame:
    """A requested frame."""

    array: Array
    work: Work
    allocate: Allocate
    batch: Batch | None = None
    """The batch in which it was started; None: it is not started, or not on the device."""
    number: int = 0
    """The index of the frame in the batch."""
