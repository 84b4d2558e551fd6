"""The counts of an export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from lumatile_service.export.exported import Exported


class ExportTally:
    """Counts of what an export has done so far."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Begin at zero. `total`: the number of frames. `progress` is called with (frames done, total) after each."""
        self._total = total
        self._progress = progress
        self._frames = 0
        self._bytes = 0
        self._errors = 0
        self._left_out: Counter[str] = Counter()
        self._lossy: Counter[str] = Counter()

    def wrote(self, *, lossy: str | None = None) -> None:
        """Count a frame that was written. `lossy`: what was lost of it; None: nothing."""
        self._frames += 1
        if lossy is not None:
            self._lossy[lossy] += 1
        self._done()

    def left_out(self, reason: str, *, error: bool) -> None:
        """Count a frame that was left out: for an `error` in it, or because the format has no place for it."""
        self._left_out[reason] += 1
        self._errors += error
        self._done()

    def wrote_bytes(self, nbytes: int) -> None:
        """Count a file of `nbytes` bytes that was written."""
        self._bytes += nbytes

    def exported(self) -> Exported:
        """Return all counts, with the most frequent reasons first."""
        return Exported(
            frames=self._frames,
            left_out=dict(self._left_out.most_common()),
            bytes_out=self._bytes,
            errors=self._errors,
            lossy=dict(self._lossy.most_common()),
        )

    def _done(self) -> None:
        if self._progress is not None:
            self._progress(self._frames + self._left_out.total(), self._total)
