"""A writer with libvips: a Deep Zoom pyramid of files per frame (dzsave)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.frames import Workload
from benchmarks.harness.rounds import SkippedError
from benchmarks.writers.writer import Close

SUFFIXES = {"jpg": ".jpg", "png": ".png[compression=1]"}
"""PNG at the fastest level that compresses."""


class VipsWriter:
    """The writer that calls `dzsave` with tiles of 256, down to one tile, directly from the memory of the frame."""

    def __init__(self, suffix: str, workload: Workload) -> None:
        """Look for libvips; `suffix`: "jpg" or "png"."""
        try:
            import pyvips
        except (ImportError, OSError) as e:
            raise SkippedError(f"libvips is not installed: {e}") from e
        if suffix == "jpg" and workload.kind != "image":
            raise SkippedError(f"JPEG holds no {workload.kind}")
        self._pyvips = pyvips
        self._suffix = SUFFIXES[suffix]
        self.name = f"libvips dzsave {suffix}"
        self.includes = (
            f"pyramid of the logged integers, a {'lossy ' if suffix == 'jpg' else ''}{suffix} a tile, no fsync"
        )

    def write(self, workload: Workload, folder: Path) -> Close:
        """Write the frames; see `FrameWriter`."""
        for number, frame in enumerate(workload.frames):
            image = self._pyvips.Image.new_from_array(frame)
            # without its interpretation, 16-bit gray would be saved with 8
            image = image.copy(interpretation="grey16") if workload.kind == "depth" else image
            image.dzsave(
                str(folder / str(number)),
                suffix=self._suffix,
                tile_size=256,
                overlap=0,
                depth="onetile",
                region_shrink="mean" if workload.kind == "image" else "nearest",
            )
        return list
