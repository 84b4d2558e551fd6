"""The backend's own launches, on frames that are on the device already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, Backend, TileBlock
from lumatile_kernels.cuda.backend import CudaBackend
from lumatile_kernels.cuda.batch import Streams, Work, launch
from lumatile_kernels.cuda.passes import MAX_FRAMES
from lumatile_kernels.device import Device
from lumatile_kernels.selection import select_host_backend


class WorkBackend(CudaBackend):
    """Says what a call would have done, instead of doing it."""

    streams: Streams
    frames_of_a_batch: int
    """How many frames the backend itself would launch together."""

    def work_of(self, call: Callable[[Backend], object]) -> Work:
        """The work of a call for one frame."""
        call(self)
        self.streams = self._streams
        self.frames_of_a_batch = self._frames_of_a_batch(self._work)
        return self._work

    def _add(
        self,
        array: Any,  # noqa: ARG002
        work: Work,
        needed: dict[str, NDArray[Any]],
        allocate: Allocate,  # noqa: ARG002
        on_host: Callable[[], Iterator[TileBlock]],  # noqa: ARG002
    ) -> Iterator[TileBlock]:
        self._work = work.with_tables({name: self._on_device(table) for name, table in needed.items()})
        return iter(())


class Fused:
    """Frames of one kind on the device, in several sets, and room for what is made of them."""

    def __init__(
        self, device: Device, frames: Sequence[NDArray[Any]], call: Callable[[Backend, Any], object], sets: int = 1
    ) -> None:
        """`frames`: of one shape and dtype; every set holds them all. `call`: what the backend is asked for."""
        self.device = device
        self._backend = WorkBackend(device, select_host_backend)
        self.work = self._backend.work_of(lambda backend: call(backend, frames[0]))
        self.streams = self._backend.streams
        self.stream = self.streams.compute
        """What is launched is on this stream."""
        self.frames = len(frames)
        self.frames_of_a_batch = min(self.frames, self._backend.frames_of_a_batch)
        each = self.work.source_bytes
        self._sets = [device.allocate(self.frames * each) for _ in range(sets)]
        self._out = device.allocate(self._most_made())
        self.in_bytes = self.frames * frames[0].nbytes
        self.out_bytes = self.frames * sum(plane.nbytes for plane in self.work.layout.planes)
        self._sources = [[memory.pointer + i * each for i in range(self.frames)] for memory in self._sets]
        for i, frame in enumerate(frames):
            for sources in self._sources:
                device.upload(sources[i], frame, self.stream)
        device.synchronize(device.record(self.stream))

    def _most_made(self) -> int:
        """Room for all frames, however many go into a launch."""
        return max(
            -(-self.frames // together) * self.work.made_bytes(together)
            for together in {self.together, self.frames_of_a_batch}
        )

    @property
    def together(self) -> int:
        """Frames of a launch, where as many go together as can: all launches are about as large."""
        launches = -(-self.frames // MAX_FRAMES)
        return -(-self.frames // launches)

    def enqueue(self, number: int, together: int | None = None) -> None:
        """Launch all frames of the set of a round, `together` at a time."""
        together = together or self.together
        sources = self._sources[number % len(self._sources)]
        out = self._out.pointer
        for first in range(0, self.frames, together):
            part = sources[first : first + together]
            launch(self.streams, self.work, part, out)
            out += self.work.made_bytes(together)

    def payload(self, frame: int, plane: int = 0) -> NDArray[np.uint8]:
        """A plane of a frame that was made, as many frames together as can."""
        layout = self.work.layout
        start = layout.blocks[0].start if plane == 0 else min(b.start for b in layout.blocks if b.plane == plane)
        batch, place = divmod(frame, self.together)
        at = self._out.pointer + batch * self.work.made_bytes(self.together) + place * layout.nbytes + start
        content = np.empty(layout.planes[plane].nbytes, np.uint8)
        self.device.download(content, at, self.stream)
        self.device.synchronize(self.device.record(self.stream))
        return content
