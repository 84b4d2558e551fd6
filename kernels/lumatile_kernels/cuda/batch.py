"""Frames of one kind and shape on their way through the device: up, one launch a pass, down in pieces.

Uploads, kernels and downloads are on streams of their own, so that the next batch goes up and is computed while this
one comes down. Downloads go straight into the buffers that the receiver of the blocks is going to write.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels.backend import Allocate, TileBlock
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.passes import PAGE, FrameLayout, PlannedBlock, frame_layout, page_ceil
from lumatile_kernels.cuda.slots import Slots
from lumatile_kernels.device import Device, DeviceError, Event, Kernel, Memory, settle
from lumatile_kernels.pyramid import Plan

PIECE_BYTES = 4 << 20
"""Small blocks come down together until they have this size."""

DOWNLOAD_AHEAD = 32 << 20
"""How far downloads run ahead of who takes the blocks, in bytes."""

PINNED_BYTES = 1 << 20
"""Who allocates buffers pins those that have this size; a download into others is waited for where it is enqueued."""

NOTHING = 0x7F800000
"""The bits of infinity, in float32; see depth.cu."""


class Streams:
    """The three streams of a backend."""

    def __init__(self, device: Device) -> None:
        """Streams on `device`."""
        self.device = device
        self.upload = device.stream()
        self.compute = device.stream()
        self.download = device.stream()
        self._layouts: dict[int, tuple[FrameLayout, Memory]] = {}
        """Row tables on the device, by the id of their layout."""

    def on_device(self, table: NDArray[Any]) -> Memory:
        """A copy of a table, waited for. Raises DeviceError."""
        memory = self.device.allocate(table.nbytes)
        try:
            self.device.upload(memory.pointer, table, self.upload)
            self.device.synchronize(self.device.record(self.upload))
        except DeviceError:
            settle(self.device, self.upload)
            raise
        return memory

    def rows(self, layout: FrameLayout) -> Memory:
        """A layout's row table on the device. Raises DeviceError."""
        known = self._layouts
        if id(layout) not in known:
            known[id(layout)] = layout, self.on_device(layout.rows)
            while len(known) > 64:
                del known[next(iter(known))]
        return known[id(layout)][1]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done to a frame; frames of equal work can share a launch."""

    plan: Plan
    shape: tuple[int, ...]
    """(h, w, c) or (h, w), none of them 0."""
    dtype: np.dtype[Any]
    kernel: Kernel
    """For the first pass."""
    carried_kernel: Kernel
    """For the others."""
    fields: tuple[tuple[str, float], ...]
    """Scalars of PASS."""
    tables: tuple[tuple[str, Memory], ...] = ()
    """Pointers of PASS."""

    def with_tables(self, tables: dict[str, Memory]) -> Work:
        """The same, with pointers."""
        return replace(self, tables=tuple(tables.items()))

    @property
    def layout(self) -> FrameLayout:
        """Where a frame's planes lie."""
        return frame_layout(*self.shape[:2], self.plan)

    @property
    def source_bytes(self) -> int:
        """Of a frame, in whole pages."""
        return page_ceil(int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)

    @property
    def carried_bytes(self) -> int:
        """What all passes carry of a frame, in whole pages."""
        texel = self.plan.channels * self.plan.carried.itemsize
        return sum(page_ceil(int(p["carry_stride"][0]) * texel) for p in self.layout.passes())

    def made_bytes(self, frames: int) -> int:
        """Device memory of what `launch` makes of some frames."""
        layout = self.layout
        return frames * (layout.nbytes + self.carried_bytes) + page_ceil(frames * layout.tiles * 8)

    def device_bytes(self, frames: int) -> int:
        """Device memory of a batch whose frames come from the host."""
        return frames * self.source_bytes + self.made_bytes(frames)


def launch(streams: Streams, work: Work, sources: Sequence[int], out: int) -> int:
    """Enqueue all passes of some frames on the compute stream; gives the address of their ranges.

    `sources`: where each frame's array is on the device, at most MAX_FRAMES; `out`: `work.made_bytes` of device memory,
    which then hold the frames' planes, one frame after another, their ranges (frames, tiles, 2) uint32, and what the
    passes have carried. Raises DeviceError.
    """
    device, layout, frames = streams.device, work.layout, len(sources)
    rows = streams.rows(layout)
    ranges = out + frames * layout.nbytes
    carry = ranges + page_ceil(frames * layout.tiles * 8)
    if any(plane.ranges for plane in work.plan.planes):
        device.zero(ranges, frames * layout.tiles * 8, streams.compute)
    texel = work.plan.channels * work.plan.carried.itemsize
    for number, arguments in enumerate(layout.passes()):
        arguments["frames"] = frames
        arguments["rows"] = rows.pointer
        arguments["out"], arguments["out_stride"] = out, layout.nbytes
        arguments["ranges"], arguments["ranges_stride"] = ranges, layout.tiles
        for name, value in work.fields:
            arguments[name] = value
        for name, memory in work.tables:
            arguments[name] = memory.pointer
        arguments["sources"][0, :frames] = sources
        stride = page_ceil(int(arguments["carry_stride"][0]) * texel)
        arguments["carry"], arguments["carry_stride"] = carry, stride
        blocks = frames * int(arguments["blocks_y"][0]) * int(arguments["blocks_x"][0])
        device.launch(work.carried_kernel if number else work.kernel, arguments, blocks, streams.compute)
        sources = [carry + frame * stride for frame in range(frames)]
        carry += frames * stride
    return ranges


@dataclass(frozen=True, kw_only=True, eq=False)
class _Piece:
    """Consecutive blocks that come down together."""

    frames: list[int]
    blocks: list[PlannedBlock]
    start: int
    """Byte offset of the first block from the first frame."""
    nbytes: int
    buffer: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    arrived: Event = None


class Batch:
    """Some frames that have been started."""

    def __init__(
        self,
        streams: Streams,
        slots: Slots,
        work: Work,
        arrays: Sequence[NDArray[Any] | DeviceArray],
        allocates: Sequence[Allocate],
    ) -> None:
        """Enqueue everything up to the first downloads; waits for nothing.

        `arrays`: at most MAX_FRAMES, of the work's shape and dtype, C-contiguous; nobody changes them until their
        blocks have been taken. `allocates`: where each frame's blocks go.
        Raises DeviceMemoryError, with nothing started, and DeviceError.
        """
        self._device = streams.device
        self._streams = streams
        self._slots = slots
        self._work = work
        self._arrays = list(arrays)
        self._allocates = list(allocates)
        self._layout = work.layout
        self._ready: list[deque[TileBlock]] = [deque() for _ in arrays]
        self._due = [len(self._layout.blocks)] * len(arrays)
        """Blocks that have not been taken, of each frame."""
        self._coming: deque[_Piece] = deque()
        self._buffers: list[NDArray[np.uint8]] = []
        """Of what is under way but will not arrive in a piece."""
        self._ranges = np.empty((len(arrays), self._layout.tiles, 2), np.uint32)
        self._left = deque(self._pieces())
        self._process = os.getpid()
        self._rows = streams.rows(self._layout)  # has to wait, the first time; kept while launches use it
        self._slot: Memory | None = slots.take(work.device_bytes(len(arrays)))
        try:
            self._compute()
            self._enqueue_downloads()
        except BaseException:
            self._end()
            raise

    def next_block(self, frame: int) -> TileBlock | None:
        """The next block of a frame, waiting for it; None after the last. Raises DeviceError."""
        if not self._due[frame]:
            return None
        while not self._ready[frame]:
            self._receive()
        self._due[frame] -= 1
        return self._ready[frame].popleft()

    def __del__(self) -> None:
        """What is under way still uses this batch's memory; in a forked child there is no device to ask."""
        if getattr(self, "_slot", None) is not None and self._process == os.getpid():
            self._end()

    def _end(self) -> None:
        """Wait for what is under way, however far it came, and give the memory back."""
        streams = self._streams
        if not settle(self._device, streams.upload, streams.compute, streams.download):
            self._slot = None  # nobody else's: the device waits by itself before memory is freed
        self._release()

    def _release(self) -> None:
        if self._slot is not None:
            self._slots.give_back(self._slot)
        self._slot = None
        self._arrays.clear()
        self._buffers.clear()

    # to the device

    def _compute(self) -> None:
        assert self._slot is not None  # noqa: S101 - it was taken before
        device, streams, at = self._device, self._streams, self._slot.pointer
        sources = self._upload(at)
        self._out = at + len(sources) * self._work.source_bytes
        ranges = launch(streams, self._work, sources, self._out)
        device.wait(streams.download, device.record(streams.compute))
        if any(plane.ranges for plane in self._work.plan.planes):
            nbytes = self._ranges.nbytes
            buffer = self._allocates[0](max(nbytes, PINNED_BYTES))[:nbytes]
            self._buffers.append(buffer)
            device.download(buffer, ranges, streams.download)
            self._ranges = buffer.view(np.uint32).reshape(self._ranges.shape)

    def _upload(self, at: int) -> list[int]:
        """Where each frame's array is on the device, once the compute stream gets there."""
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
        """Blocks in the order of frames and, of a frame, as the host backends give them; joined where they adjoin."""
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
            self._buffers.append(buffer)  # should anything fail here, the download may still be under way
            device.download(buffer, self._out + piece.start, stream)
            self._coming.append(replace(piece, buffer=buffer, arrived=device.record(stream)))
            self._buffers.pop()
            self._left.popleft()

    def _receive(self) -> None:
        """Wait for the next piece, and hand out its blocks."""
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
        """(n, 2) values from what the kernels keep of them; see Range in pyramid.cu."""
        low, high = ranges[:, 0], ranges[:, 1]
        if self._work.plan.carried.kind == "u":
            return np.stack([65536.0 - low, high - 1.0], axis=1)
        bits = np.stack([NOTHING - low, high], axis=1).astype(np.uint32)
        values = bits.view(np.float32).astype(np.float64)
        values[high == 0] = np.nan
        return values
