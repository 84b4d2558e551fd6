"""A writer that logs with Lumatile and flushes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import lumatile as lt
from benchmarks.harness.frames import METER, Workload
from benchmarks.writers.writer import Close
from lumatile.settings import TileFormat

TILES = {
    "linear": "float16 linear light",
    "srgb8": "8 bits, filtered in linear light",
    "depth": "float32 metres",
    "segmentation": "8-bit ids and their colors, lz4",
}
"""The content of tiles, by tile format or kind."""


class LumatileWriter:
    """The writer that calls `lt.new_recording`, `save`, a log function per frame, and `flush`."""

    def __init__(self, name: str, workload: Workload, tile_format: TileFormat = "linear") -> None:
        """Store images in `tile_format`."""
        self.name = name
        tiles = TILES[tile_format if workload.kind == "image" else workload.kind]
        self.includes = f"pyramid in {tiles}, checksums, index, fsync"
        self._tile_format = tile_format

    def write(self, workload: Workload, folder: Path) -> Close:
        """Write the frames; see `FrameWriter`."""
        recording = lt.new_recording("benchmark", tile_format=self._tile_format)
        recording.save(folder)
        for number, frame in enumerate(workload.frames):
            recording.set_time_sequence("frame", number)
            if workload.kind == "image":
                recording.log_image("camera/image", frame)
            elif workload.kind == "depth":
                recording.log_depth_image("camera/depth", frame, meter=METER)
            else:
                recording.log_segmentation_image("camera/segmentation", frame)
        recording.flush()
        return recording.disconnect

    def check(self, workload: Workload, folder: Path) -> None:
        """Raise RuntimeError unless the store returns what was logged."""
        store = lt.open_store(folder)
        recording = store.recording(store.recordings()[0].recording_id)
        for number, logged in enumerate(workload.frames):
            frame = recording.latest_at(f"camera/{workload.kind}", frame=number)
            if frame is None or not np.array_equal(frame.source(), logged):
                raise RuntimeError(f"{self.name} did not store frame {number} of {workload.name}")
