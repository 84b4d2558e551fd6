"""Lumatile: log and flush."""

from __future__ import annotations

from pathlib import Path

import lumatile as lt
from benchmarks.frames import METER, Workload
from benchmarks.writers.writer import Close
from lumatile.settings import TileFormat


class LumatileWriter:
    """`lt.new_recording`, `save`, a log call a frame, `flush`."""

    def __init__(self, name: str, tile_format: TileFormat = "linear") -> None:
        """`tile_format`: how images are stored."""
        self.name = name
        self.includes = "tiles of all levels, checksums, index, fsync"
        self._tile_format = tile_format

    def write(self, workload: Workload, folder: Path) -> Close:
        """See Writer."""
        recording = lt.new_recording("benchmark", tile_format=self._tile_format)
        recording.save(folder)
        for number, frame in enumerate(workload.frames):
            recording.set_time_sequence("frame", number)
            if workload.kind == "image":
                recording.log_image("camera/rgb", frame)
            elif workload.kind == "depth":
                recording.log_depth_image("camera/depth", frame, meter=METER)
            else:
                recording.log_segmentation_image("camera/ids", frame)
        recording.flush()
        return recording.disconnect
