"""The protocol of writers, and the pyramid that users of array stores make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.frames import Workload

Close = Callable[[], object]


class FrameWriter(Protocol):
    """A writer of all frames of a workload. Its constructor raises SkippedError if it cannot run on this machine."""

    name: str
    """A short name, unique in a table."""
    includes: str
    """The result of the timed part: pyramid, bits, compression, fsync."""

    def write(self, workload: Workload, folder: Path) -> Close:
        """Write the frames into the empty `folder`; return the function that closes it, for after the timing."""
        ...


def pyramid(frame: NDArray[Any], workload: Workload) -> list[NDArray[Any]]:
    """Return the levels of a frame as a user of an array store would make them, down to max(h, w) <= 256.

    Images: OpenCV's area average on the gamma values, the fastest 2x2 mean there is; depth and ids: every second texel.
    """
    import cv2

    levels = [frame]
    while max(levels[-1].shape[:2]) > 256:
        last = levels[-1]
        if workload.kind == "image":
            size = (-(-last.shape[1] // 2), -(-last.shape[0] // 2))
            levels.append(np.asarray(cv2.resize(last, size, interpolation=cv2.INTER_AREA)))
        else:
            levels.append(np.ascontiguousarray(last[::2, ::2]))
    return levels
