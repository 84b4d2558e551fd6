"""The launches of the backend, for frames that are already on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.cuda.device_tables import DeviceTables
from lumatile_kernels.cuda.passes import MAX_FRAMES
from lumatile_kernels.cuda.streams import DeviceStreams
from lumatile_kernels.cuda.work import Planner, Work, frames_of_a_batch, launch
from lumatile_kernels.device import Device


class Fused:
    """Frames of one kind on the device, in several sets, and memory for their results."""

    def __init__(
        self, device: Device, frames: Sequence[NDArray[Any]], call: Callable[[Planner, Any], Work], sets: int = 1
    ) -> None:
        """Upload the frames and make room.

        `frames`: arrays of one shape and dtype; every set holds them all. `call`: returns the work for one of them.
        """
        self.device = device
        self.streams = DeviceStreams(device)
        self._tables = DeviceTables(self.streams)
        self.work = call(Planner(self._tables), frames[0])
        self.stream = self.streams.compute
        """The stream of the launches."""
        self.frames = len(frames)
        self.frames_of_a_batch = min(self.frames, frames_of_a_batch(self.work))
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
        """Return the bytes of the results of all frames, for any number of frames per launch."""
        return max(
            -(-self.frames // together) * self.work.made_bytes(together)
            for together in {self.together, self.frames_of_a_batch}
        )

    @property
    def together(self) -> int:
        """The frames of a launch if launches are as large as possible and about equal."""
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
        """Return a plane of a frame that was made in launches as large as possible."""
        layout = self.work.layout
        start = layout.blocks[0].start if plane == 0 else min(b.start for b in layout.blocks if b.plane == plane)
        batch, place = divmod(frame, self.together)
        at = self._out.pointer + batch * self.work.made_bytes(self.together) + place * layout.nbytes + start
        content = np.empty(layout.planes[plane].nbytes, np.uint8)
        self.device.download(content, at, self.stream)
        self.device.synchronize(self.device.record(self.stream))
        return content
