"""Lumatile: log and flush."""

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
"""What tiles hold, by tile format or kind."""


class LumatileWriter:
    """`lt.new_recording`, `save`, a log call a frame, `flush`."""

    def __init__(self, name: str, workload: Workload, tile_format: TileFormat = "linear") -> None:
        """`tile_format`: how images are stored."""
        self.name = name
        tiles = TILES[tile_format if workload.kind == "image" else workload.kind]
        self.includes = f"pyramid in {tiles}, checksums, index, fsync"
        self._tile_format = tile_format

    def write(self, workload: Workload, folder: Path) -> Close:
        """See FrameWriter."""
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
        """That the store gives back what was logged; raises RuntimeError if not."""
        store = lt.open_store(folder)
        recording = store.recording(store.recordings()[0].recording_id)
        for number, logged in enumerate(workload.frames):
            frame = recording.latest_at(f"camera/{workload.kind}", frame=number)
            if frame is None or not np.array_equal(frame.source(), logged):
                raise RuntimeError(f"{self.name} did not store frame {number} of {workload.name}")
