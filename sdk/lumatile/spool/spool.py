"""Logged values on local disk, until a service has them.

A spool is one process's stream into one recording. Values are added at the end and read from the beginning, while they
are written or after their writer has died; what is acknowledged is deleted, segment by segment.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lumatile.settings import RecordingSettings
from lumatile.spool.directory import SpoolDirectory
from lumatile.spool.reader import Position, SpoolReader, Unit
from lumatile.spool.writer import SpoolWriter
from lumatile.values import LoggedValue

log = logging.getLogger(__name__)

CAPACITY = 10 << 30
"""Most bytes of a spool, by default."""


class Spool:
    """Values that wait on disk. One thread appends, reads and tidies; `acknowledge` may be called from others.

    Nothing is on disk before the first `append`.
    """

    def __init__(self, root: Path, url: str, settings: RecordingSettings, *, capacity: int = CAPACITY) -> None:
        """A new one under `root`, of a recording, for the service at `url`; `capacity`: its most bytes."""
        self.url = url
        """Of the service that its values are for."""
        self.settings = settings
        """Of the recording that its values are of."""
        self.acknowledged = 0
        """Values that the service has decided on."""
        self.sent_bytes = 0
        """Bytes that are sent and not acknowledged."""
        self._root = root
        self._capacity = capacity
        self._directory: SpoolDirectory | None = None
        self._reader: SpoolReader | None = None
        self._writer: SpoolWriter | None = None
        self._lock = threading.RLock()
        """Guards what follows, and the two counts above."""
        self._sizes: dict[int, int] = {}
        """Segments that are there, and their bytes that may be read: what is durable."""
        self._read = self._end = Position(1, 0)
        """Everything before `_read` has been sent; everything before `_end` is durable here."""
        self._sent: deque[Unit] = deque()
        """Sent, and not acknowledged or behind one that is not."""
        self._waiting: dict[tuple[bytes, int], Unit] = {}
        """By the keys that are not acknowledged."""

    @staticmethod
    def adopt(path: Path) -> Spool:
        """The spool at `path`, of a process that is gone: to be read, not appended to.

        Raises SpoolBusyError where that process is alive, SpoolError, OSError.
        """
        directory = SpoolDirectory.adopt(path)
        spool = Spool(path.parent, directory.url, directory.settings)
        try:
            spool._take_over(directory)
        except BaseException:
            directory.close()
            raise
        return spool

    def _take_over(self, directory: SpoolDirectory) -> None:
        self._directory, self._reader, self._capacity = directory, SpoolReader(directory), 0
        self._sizes = directory.segments()
        if self._sizes:
            last = max(self._sizes)
            self._read, self._end = Position(min(self._sizes), 0), Position(last, self._sizes[last])

    @property
    def path(self) -> Path | None:
        """Its directory, if it has one by now."""
        return None if self._directory is None else self._directory.path

    @property
    def nbytes(self) -> int:
        """Bytes of its segments."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def damaged(self) -> int:
        """Values that could not be read, as far as is known."""
        return 0 if self._reader is None else self._reader.damaged

    @property
    def all_sent(self) -> bool:
        """Whether `next` has nothing to give."""
        return self._read >= self._end

    @property
    def sent_values(self) -> int:
        """Values that are sent and not acknowledged."""
        return len(self._waiting)

    @property
    def end(self) -> Position:
        """Where the next value goes."""
        return self._end

    @property
    def done(self) -> Position:
        """Everything before it is acknowledged."""
        with self._lock:
            return self._done()

    def _done(self) -> Position:
        return self._sent[0].start if self._sent else self._read

    def append(self, values: Sequence[LoggedValue], *, sent: bool = False) -> int:
        """Make values durable: as many of the first as there is room for; says how many.

        `sent`: they have been sent already, as has everything before them, so that `next` need not give them.
        Raises SpoolFullError, OSError or UnsendableError where not even the first one is.
        """
        if self._directory is None or self._writer is None:
            self._directory = SpoolDirectory.create(self._root, self.url, self.settings)
            self._reader, self._writer = SpoolReader(self._directory), SpoolWriter(self._directory)
        written = self._writer.append(values, self._capacity - self.nbytes)
        with self._lock:
            sent = sent and self.all_sent
            self._sizes.update(written.sizes)
            self._end = written.units[-1].end
            if sent:
                self._read = self._end
                for unit in written.units:
                    self._note_sent(unit)
        return sum(unit.values for unit in written.units)

    def next(self) -> Unit | None:
        """What comes next, to be sent now; None: everything has been sent. Raises OSError."""
        if self._reader is None or self._read >= self._end:
            return None
        unit, read = self._reader.next(self._read, dict(self._sizes))
        with self._lock:
            self._read = read
            if unit is not None:
                self._note_sent(unit)
        return unit

    def _note_sent(self, unit: Unit) -> None:
        self._sent.append(unit)
        self.sent_bytes += unit.nbytes
        self._waiting.update(dict.fromkeys(unit.keys, unit))

    def acknowledge(self, producer: bytes, seq: int) -> bool:
        """The service has decided on a value; whether it had been sent from here, and was not acknowledged before."""
        with self._lock:
            unit = self._waiting.pop((producer, seq), None)
            if unit is None:
                return False
            unit.keys.discard((producer, seq))
            while self._sent and not self._sent[0].keys:
                first = self._sent.popleft()
                self.sent_bytes -= first.nbytes
                self.acknowledged += first.values
            return True

    def rewind(self) -> None:
        """Send again, from now on, what is not acknowledged."""
        with self._lock:
            self._read = self._done()
            self._sent.clear()
            self._waiting.clear()
            self.sent_bytes = 0
        if self._reader is not None:
            self._reader.rewind()

    def tidy(self) -> None:
        """Delete segments of which everything is acknowledged; damaged ones are set aside."""
        if not self._sizes:
            return
        with self._lock:
            done = self._done()
            finished = [n for n, size in self._sizes.items() if (n, size) <= done]
        if not finished or self._directory is None or self._reader is None:
            return
        if self._writer is not None and done.segment in finished:
            self._writer.end_segment()
        for number in finished:
            with suppress(OSError):
                if number in self._reader.broken:
                    kept = self._directory.keep_damaged(number)
                    log.error("%s is damaged; what could be read of it was sent", kept)
                else:
                    self._directory.segment(number).unlink(missing_ok=True)
        with self._lock:
            for number in finished:
                del self._sizes[number]

    def close(self) -> None:
        """Let others have it; removed where it is empty."""
        self.tidy()
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.end_segment()
        if self._directory is not None:
            self._directory.close()
