"""Logged values on local disk, until a service has them.

A spool holds one process's stream into one recording. Values are added at its end and read from its beginning, by the
process that logs, or by another one after that has died. Segments are deleted when a service has acknowledged all of
their values.
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
from lumatile.spool.options import CAPACITY
from lumatile.spool.reader import Position, SpoolReader, Unit
from lumatile.spool.writer import SpoolWriter
from lumatile.values import LoggedValue

log = logging.getLogger(__name__)


class Spool:
    """Values that wait on disk. One thread appends, reads and tidies; `acknowledge` may be called from others.

    Nothing is on disk before the first `append`.
    """

    def __init__(
        self,
        root: Path,
        url: str,
        settings: RecordingSettings,
        *,
        capacity: int = CAPACITY,
        adopted: SpoolDirectory | None = None,
        synced: bool = True,
    ) -> None:
        """Begin a new spool, or go on with one of another process.

        Args:
            root: directory in which the spool gets a directory of its own.
            url: of the service that the values are for.
            settings: of the recording that the values are part of.
            capacity: the most bytes that it holds.
            adopted: the directory of a spool that has values already; see `adopt`.
            synced: what is appended survives the machine's end; False: only the end of this process, at less cost.

        Raises:
            OSError: the adopted directory cannot be read.
        """
        self.url = url
        """The URL of the service that its values are for."""
        self.settings = settings
        """The settings of the recording that its values are part of."""
        self.acknowledged = 0
        """The number of values that the service has stored or refused."""
        self.sent_bytes = 0
        """The bytes that are sent and not acknowledged."""
        self._root = root
        self._capacity = capacity
        self._synced = synced
        self._directory = adopted
        self._reader = None if adopted is None else SpoolReader(adopted)
        self._writer: SpoolWriter | None = None
        self._lock = threading.RLock()
        """Guards the fields below, and the two counts above."""
        self._sizes: dict[int, int] = {} if adopted is None else adopted.segments()
        """Number of each segment -> its bytes that are durable, and may be read."""
        self._read = self._end = Position(1, 0)
        """Everything before `_read` has been sent; everything before `_end` is durable here."""
        if self._sizes:
            last = max(self._sizes)
            self._read, self._end = Position(min(self._sizes), 0), Position(last, self._sizes[last])
        self._sent: deque[Unit] = deque()
        """The units that are sent, from the first that is not acknowledged on."""
        self._waiting: dict[tuple[bytes, int], Unit] = {}
        """The same units, by the keys of their values that are not acknowledged."""

    @staticmethod
    def adopt(path: Path) -> Spool:
        """Open the spool at `path`, of a process that has ended: to be read, not appended to.

        Raises:
            SpoolBusyError: that process is alive, or another one sends the spool.
            SpoolError: there is no spool that can be read.
            OSError: its directory cannot be read.
        """
        directory = SpoolDirectory.adopt(path)
        try:
            return Spool(path.parent, directory.url, directory.settings, capacity=0, adopted=directory)
        except BaseException:
            directory.close()
            raise

    @property
    def path(self) -> Path | None:
        """The directory of the spool; None: nothing has been appended yet."""
        return None if self._directory is None else self._directory.path

    @property
    def nbytes(self) -> int:
        """The bytes of all segments."""
        with self._lock:
            return sum(self._sizes.values())

    @property
    def damaged(self) -> int:
        """The number of values that could not be read, as far as is known."""
        return 0 if self._reader is None else self._reader.damaged

    @property
    def all_sent(self) -> bool:
        """Whether everything has been sent, so that `next` returns None."""
        return self._read >= self._end

    @property
    def sent_values(self) -> int:
        """The number of values that are sent and not acknowledged."""
        return len(self._waiting)

    @property
    def end(self) -> Position:
        """The position that the next value is written to."""
        return self._end

    @property
    def done(self) -> Position:
        """The position before which everything is acknowledged."""
        with self._lock:
            return self._done()

    def _done(self) -> Position:
        return self._sent[0].start if self._sent else self._read

    def append(self, values: Sequence[LoggedValue], *, sent: bool = False) -> int:
        """Make values durable: all of them, or the first ones, as far as there is room.

        Args:
            values: in the order in which they were logged.
            sent: they have been sent already, and everything before them too: `next` does not return them.

        Returns:
            How many of the values are durable, at least one.

        Raises:
            SpoolFullError: there is no room for the first value.
            OSError: the first value could not be made durable.
            UnsendableError: the first value cannot be encoded.
        """
        if self._directory is None or self._writer is None:
            self._directory = SpoolDirectory.create(self._root, self.url, self.settings, synced=self._synced)
            self._reader = SpoolReader(self._directory)
            self._writer = SpoolWriter(self._directory, synced=self._synced)
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
        """Return what is to be sent next, and count it as sent; None: everything has been sent. Raises OSError."""
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
        """Note that the service has stored or refused a value; return whether the spool was waiting for that."""
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

    def end_segment(self) -> None:
        """Let the next value begin a new segment."""
        if self._writer is not None:
            self._writer.end_segment()

    def rewind(self) -> None:
        """Let `next` begin again with the first unit that is not acknowledged."""
        with self._lock:
            self._read = self._done()
            self._sent.clear()
            self._waiting.clear()
            self.sent_bytes = 0
        if self._reader is not None:
            self._reader.rewind()

    def tidy(self) -> None:
        """Delete the segments of which everything is acknowledged; rename damaged ones, which are kept."""
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
        """Release the spool to other processes; remove its directory if it is empty."""
        self.tidy()
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.end_segment()
        if self._directory is not None:
            self._directory.close()
