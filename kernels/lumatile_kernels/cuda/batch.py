"""The processing of frames of one kind and shape on the device: upload, one launch per pass, download in pieces.

Uploads, kernels and downloads have separate streams, so that the next batch is uploaded and computed while this one is
downloaded. Downloads go directly into the buffers that the receiver of the blocks is going to write.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, TileBlock
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.passes import PAGE, PlannedBlock
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.cuda.streams import DeviceStreams
from lumatile_kernels.cuda.work import Array, Work, launch
from lumatile_kernels.device import Event, Memory, settle

PIECE_BYTES = 4 << 20
"""Small blocks are downloaded together until they have this size, in bytes."""

DOWNLOAD_AHEAD = 32 << 20
"""The bytes that are downloaded before the receiver takes their blocks."""

PINNED_BYTES = 1 << 20
"""The least size, in bytes, of buffers that are pinned; a download into an unpinned buffer blocks when enqueued."""

NOTHING = 0x7F800000
"""The bits of infinity in float32; see depth.cu."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """Consecutive blocks that are downloaded together."""

    frames: list[int]
    blocks: list[PlannedBlock]
    start: int
    """The byte offset of the first block from the first frame."""
    nbytes: int
    buffer: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    arrived: Event = None


class Batch:
    """Frames that have been started together."""

    def __init__(
        self,
        streams: DeviceStreams,
        slots: Slots,
        work: Work,
        arrays: Sequence[Array],
        allocates: Sequence[Allocate],
    ) -> None:
        """Enqueue all operations up to the first downloads, without waiting.

        `arrays`: at most MAX_FRAMES arrays of the work's shape and dtype, C-contiguous; nobody may change them until
        their blocks have been taken. `allocates`: provide the memory of each frame's blocks.
        Raises DeviceMemoryError, in which case nothing was started, and DeviceError.
        """
        self._slot: Memory | None = None
        self._process = os.getpid()
        self._device = streams.device
        self._streams = streams
        self._slots = slots
        self._work = work
        self._arrays = list(arrays)
        self._allocates = list(allocates)
        self._layout = work.layout
        self._ready: list[deque[TileBlock]] = [deque() for _ in arrays]
        self._due = [len(self._layout.blocks)] * len(arrays)
        """The number of blocks of each frame that have not been taken."""
        self._coming: deque[_Piece] = deque()
        self._buffers: list[NDArray[np.uint8]] = []
        """The buffers of downloads that do not belong to a piece."""
        self._ranges = np.empty((len(arrays), self._layout.tiles, 2), np.uint32)
        self._left = deque(self._pieces())
        self._rows = streams.rows(self._layout)  # waits the first time; kept while launches use it
        self._slot = slots.take(work.device_bytes(len(arrays)))
        self._out = self._slot.pointer + len(arrays) * work.source_bytes
        try:
            self._compute(self._slot.pointer)
            self._enqueue_downloads()
        except BaseException:
            self._end()
            raise

    def next_block(self, frame: int) -> TileBlock | None:
        """Wait for the next block of a frame and return it; None after the last. Raises DeviceError."""
        if not self._due[frame]:
            return None
        while not self._ready[frame]:
            self._receive()
        self._due[frame] -= 1
        return self._ready[frame].popleft()

    def __del__(self) -> None:
        """Wait for pending operations, which use the memory of this batch; a forked child has no device."""
        if self._slot is not None and self._process == os.getpid():
            self._end()

    def _end(self) -> None:
        """Wait for all pending operations, and give the memory back."""
        streams = self._streams
        if not settle(self._device, streams.upload, streams.compute, streams.download):
            self._slot = None  # not reused: the device waits before it frees memory
        self._release()

    def _release(self) -> None:
        if self._slot is not None:
            self._slots.give_back(self._slot)
        self._slot = None
        self._arrays.clear()
        self._buffers.clear()

    # to the device

    def _compute(self, at: int) -> None:
        """Enqueue the uploads to device memory from `at` on, the launches, and the download of the ranges."""
        device, streams = self._device, self._streams
        ranges = launch(streams, self._work, self._upload(at), self._out)
        device.wait(streams.download, device.record(streams.compute))
        if any(plane.ranges for plane in self._work.plan.planes):
            nbytes = self._ranges.nbytes
            buffer = self._allocates[0](max(nbytes, PINNED_BYTES))[:nbytes]
            self._buffers.append(buffer)
            device.download(buffer, ranges, streams.download)
            self._ranges = buffer.view(np.uint32).reshape(self._ranges.shape)

    def _upload(self, at: int) -> list[int]:
        """Return the addresses of the frames' arrays, which the compute stream finds complete."""
        device, streams = self._device, self._streams
        sources = []
        uploads = False
        for frame, array in enumerate(self._arrays):
            if isinstance(array, DeviceArray):
                device.wait(streams.compute, array.ready)
                sources.append(array.pointer)
            else:
                sources.append(at + frame * self._work.source_bytes)
                device.upload(sources[-1], array, streams.upload)
                uploads = True
        if uploads:
            device.wait(streams.compute, device.record(streams.upload))
        return sources

    # and back

    def _pieces(self) -> Iterator[_Piece]:
        """Yield the blocks by frame, in the order of the host backends, with adjacent blocks joined."""
        frames: list[int] = []
        blocks: list[PlannedBlock] = []
        start = end = 0
        for frame in range(len(self._arrays)):
            for block in self._layout.blocks:
                at = frame * self._layout.nbytes + block.start
                if blocks and (end - start >= PIECE_BYTES or not end <= at < end + PAGE):
                    yield _Piece(frames=frames, blocks=blocks, start=start, nbytes=end - start)
                    frames, blocks = [], []
                if not blocks:
                    start = at
                frames.append(frame)
                blocks.append(block)
                end = at + block.nbytes
        yield _Piece(frames=frames, blocks=blocks, start=start, nbytes=end - start)

    def _enqueue_downloads(self) -> None:
        device, stream = self._device, self._streams.download
        while self._left and sum(piece.nbytes for piece in self._coming) < DOWNLOAD_AHEAD:
            piece = self._left[0]
            buffer = self._allocates[piece.frames[0]](piece.nbytes)
            self._buffers.append(buffer)  # if anything fails here, the download may still be pending
            device.download(buffer, self._out + piece.start, stream)
            self._coming.append(replace(piece, buffer=buffer, arrived=device.record(stream)))
            self._buffers.pop()
            self._left.popleft()

    def _receive(self) -> None:
        """Wait for the next piece, and make its blocks available."""
        if not self._coming:
            self._enqueue_downloads()
        piece = self._coming[0]
        self._device.synchronize(piece.arrived)
        self._coming.popleft()
        for frame, block in zip(piece.frames, piece.blocks, strict=True):
            start = frame * self._layout.nbytes + block.start - piece.start
            plane = self._work.plan.planes[block.plane]
            tiles = self._layout.planes[block.plane].index[block.tiles]
            self._ready[frame].append(
                TileBlock(
                    plane=plane.plane,
                    tiles=replace(tiles, offset=tiles.offset - tiles.offset[0]),
                    payload=piece.buffer[start : start + block.nbytes],
                    value_range=self._value_range(self._ranges[frame, block.tiles]) if plane.ranges else None,
                )
            )
        self._enqueue_downloads()
        if not self._coming:
            self._release()

    def _value_range(self, ranges: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Return values, (n, 2), from the form in which the kernels keep them; see Range in pyramid.cu."""
        low, high = ranges[:, 0], ranges[:, 1]
        if self._work.plan.carried.kind == "u":
            return np.stack([65536.0 - low, high - 1.0], axis=1)
        bits = np.stack([NOTHING - low, high], axis=1).astype(np.uint32)
        values = bits.view(np.float32).astype(np.float64)
        values[high == 0] = np.nan
        return values
