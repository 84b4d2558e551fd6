"""A writer with zarr, format 3: one array per level, (frame, y, x, channel)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness.frames import Workload
from benchmarks.harness.rounds import SkippedError
from benchmarks.writers.writer import Close, pyramid


class ZarrWriter:
    """The writer of a multiscale group in a local store, with uncompressed chunks of one frame and 256x256 texels."""

    def __init__(self) -> None:
        """Look for zarr and OpenCV."""
        try:
            import cv2  # noqa: F401
            import zarr
        except ImportError as e:
            raise SkippedError(f"not installed: {e}") from e
        self._zarr = zarr
        self.name = "zarr"
        self.includes = "pyramid of the logged integers (OpenCV 2x2 mean), uncompressed, no fsync"

    def write(self, workload: Workload, folder: Path) -> Close:
        """Write the frames; see `FrameWriter`."""
        group = self._zarr.open_group(folder, mode="w")
        arrays: list[Any] = []
        for number, frame in enumerate(workload.frames):
            levels = pyramid(frame, workload)
            if not arrays:
                arrays = [
                    group.create_array(
                        str(i),
                        shape=(len(workload.frames), *level.shape),
                        chunks=(1, 256, 256, *level.shape[2:]),
                        dtype=level.dtype,
                        compressors=None,
                    )
                    for i, level in enumerate(levels)
                ]
            for array, level in zip(arrays, levels, strict=True):
                array[number] = level
        return list
