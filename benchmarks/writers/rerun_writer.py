"""A writer that logs and saves the same frames with rerun-sdk."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.harness.frames import METER, Workload
from benchmarks.harness.rounds import SkippedError
from benchmarks.writers.writer import Close


class RerunWriter:
    """The writer that calls `rr.RecordingStream`, `save`, a log function per frame, and `flush`."""

    def __init__(self, *, fsync: bool = False) -> None:
        """Look for rerun-sdk; `fsync`: make the file durable, as the flush of Lumatile does."""
        try:
            import rerun
        except ImportError as e:
            raise SkippedError(f"rerun-sdk is not installed: {e}") from e
        self._rerun = rerun
        self._fsync = fsync
        self.name = "rerun-sdk, fsync" if fsync else "rerun-sdk"
        self.includes = "the logged bytes in an .rrd file, no pyramid, " + ("fsync" if fsync else "no fsync")

    def write(self, workload: Workload, folder: Path) -> Close:
        """Write the frames; see `FrameWriter`."""
        archetype = {
            "image": self._rerun.Image,
            "depth": lambda frame: self._rerun.DepthImage(frame, meter=METER),
            "segmentation": self._rerun.SegmentationImage,
        }[workload.kind]
        path = folder / "frames.rrd"
        recording = self._rerun.RecordingStream("benchmark")
        recording.save(path)
        for number, frame in enumerate(workload.frames):
            recording.set_time("frame", sequence=number)
            recording.log(f"camera/{workload.kind}", archetype(frame))
        recording.flush()
        if self._fsync:
            file = os.open(path, os.O_WRONLY)
            os.fsync(file)
            os.close(file)
        return recording.disconnect
