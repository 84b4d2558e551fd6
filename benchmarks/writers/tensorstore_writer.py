"""A writer with tensorstore and its zarr3 driver: one array per level, (frame, y, x, channel)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.harness.frames import Workload
from benchmarks.harness.rounds import SkippedError
from benchmarks.writers.writer import Close, pyramid


class TensorstoreWriter:
    """The writer of uncompressed chunks of one frame and 256x256 texels, written while the next levels are made."""

    def __init__(self, *, fsync: bool = True) -> None:
        """Look for tensorstore; `fsync`: its own default for local files."""
        try:
            import cv2  # noqa: F401
            import tensorstore
        except ImportError as e:
            raise SkippedError(f"not installed: {e}") from e
        self._tensorstore = tensorstore
        self._fsync = fsync
        self.name = "tensorstore" if fsync else "tensorstore, no fsync"
        self.includes = "pyramid of the logged integers (OpenCV 2x2 mean), uncompressed, " + (
            "fsync of each chunk" if fsync else "no fsync"
        )

    def write(self, workload: Workload, folder: Path) -> Close:
        """Write the frames; see `FrameWriter`."""
        context = self._tensorstore.Context({"file_io_sync": self._fsync})
        arrays: list[Any] = []
        writes: list[Any] = []
        for number, frame in enumerate(workload.frames):
            levels = pyramid(frame, workload)
            if not arrays:
                arrays = [
                    self._create(folder / str(i), len(workload.frames), level, context)
                    for i, level in enumerate(levels)
                ]
            waiting = writes
            writes = [
                array[number].write(level, can_reference_source_data_indefinitely=True)
                for array, level in zip(arrays, levels, strict=True)
            ]
            for write in waiting:
                write.result()
        for write in writes:
            write.result()
        return list

    def _create(self, path: Path, frames: int, level: NDArray[Any], context: Any) -> Any:
        chunk = [1, 256, 256, *level.shape[2:]]
        return self._tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {"driver": "file", "path": f"{path}/"},
                "metadata": {
                    "shape": [frames, *level.shape],
                    "data_type": level.dtype.name,
                    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
                    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                },
            },
            create=True,
            context=context,
        ).result()
