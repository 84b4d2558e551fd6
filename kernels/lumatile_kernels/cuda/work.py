"""The work that a call of the backend asks for, and the launches that do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lumatile_kernels import tables
from lumatile_kernels.backend import TileFormat
from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.cuda.device_tables import DeviceTables
from lumatile_kernels.cuda.passes import MAX_FRAMES, FrameLayout, frame_layout, page_ceil
from lumatile_kernels.cuda.sources import depth_kernel, image_kernel, segmentation_kernel
from lumatile_kernels.cuda.streams import DeviceStreams
from lumatile_kernels.device import Kernel, Memory
from lumatile_kernels.pyramid import PyramidPlan, depth_plan, image_plan, segmentation_plan

Array = NDArray[Any] | DeviceArray

BATCH_BYTES = 128 << 20
"""The device memory of a batch, in bytes, unless a single frame takes more."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work for a frame; frames of equal work can share a launch."""

    plan: PyramidPlan
    shape: tuple[int, ...]
    """The shape of the frame: (h, w, c) or (h, w), none of them 0."""
    dtype: np.dtype[Any]
    """The dtype of the frame."""
    kernel: Kernel
    """The kernel of the first pass."""
    carried_kernel: Kernel
    """The kernel of the other passes."""
    fields: tuple[tuple[str, float], ...]
    """The scalars of PASS."""
    tables: tuple[tuple[str, Memory], ...]
    """The pointers of PASS to tables on the device."""

    @property
    def layout(self) -> FrameLayout:
        """The layout of the planes of a frame."""
        return frame_layout(*self.shape[:2], self.plan)

    @property
    def source_bytes(self) -> int:
        """The size of a frame in bytes, in whole pages."""
        return page_ceil(int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)

    @property
    def carried_bytes(self) -> int:
        """The size of the levels that all passes of a frame carry, in bytes, in whole pages."""
        texel = self.plan.channels * self.plan.carried.itemsize
        return sum(page_ceil(int(p["carry_stride"][0]) * texel) for p in self.layout.passes())

    def made_bytes(self, frames: int) -> int:
        """Return the device memory, in bytes, of the results of `launch` for this number of frames."""
        layout = self.layout
        return frames * (layout.nbytes + self.carried_bytes) + page_ceil(frames * layout.tiles * 8)

    def device_bytes(self, frames: int) -> int:
        """Return the device memory, in bytes, of a batch whose frames come from the host."""
        return frames * self.source_bytes + self.made_bytes(frames)


def launch(streams: DeviceStreams, work: Work, sources: Sequence[int], out: int) -> int:
    """Enqueue all passes of some frames on the compute stream; return the address of their ranges.

    `sources`: the addresses of the frames' arrays, at most MAX_FRAMES. `out`: the address of `work.made_bytes` bytes of
    device memory, which will hold the planes, one frame after another, the ranges, (frames, tiles, 2) uint32, and the
    levels that the passes carry. Raises DeviceError.
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


def frames_of_a_batch(work: Work) -> int:
    """Return the number of frames that are started together."""
    return max(1, min(MAX_FRAMES, BATCH_BYTES // work.device_bytes(1)))


class Planner:
    """Turns the arguments of a backend's calls into work. Its methods raise DeviceError."""

    def __init__(self, device_tables: DeviceTables) -> None:
        """Use `device_tables` for the tables that the kernels read."""
        self._tables = device_tables

    def image(self, image: Array, *, tile_format: TileFormat = "linear") -> Work:
        """Return the work that `Backend.image` asks for."""
        channels = image.shape[2]
        low, high = tables.COLOR_LIMITS[tile_format]
        read = [("buckets", self._tables.constant(tables.srgb_buckets()))]
        if image.dtype.kind == "u":
            read.append(("light", self._tables.constant(tables.srgb_to_linear(image.dtype))))
            read.append(("halves", self._tables.constant(tables.srgb_to_half(image.dtype))))
        return Work(
            plan=image_plan(tile_format, channels),
            shape=image.shape,
            dtype=image.dtype,
            kernel=image_kernel(image.dtype, channels, tile_format),
            carried_kernel=image_kernel(np.dtype(np.float32), channels, tile_format, carried=True),
            fields=(("low", float(low)), ("high", float(high))),
            tables=tuple(read),
        )

    def depth(self, depth: Array, *, meter: float) -> Work:
        """Return the work that `Backend.depth` asks for."""
        return Work(
            plan=depth_plan(),
            shape=depth.shape,
            dtype=depth.dtype,
            kernel=depth_kernel(depth.dtype),
            carried_kernel=depth_kernel(np.dtype(np.float32), carried=True),
            fields=(("meter", float(np.float32(meter))),),
            tables=(),
        )

    def segmentation(self, ids: Array, *, palette: NDArray[np.uint8]) -> Work:
        """Return the work that `Backend.segmentation` asks for."""
        kernel = segmentation_kernel(ids.dtype)
        return Work(
            plan=segmentation_plan(ids.dtype),
            shape=ids.shape,
            dtype=ids.dtype,
            kernel=kernel,
            carried_kernel=kernel,
            fields=(),
            tables=(("palette", self._tables.palette(palette)),),
        )
