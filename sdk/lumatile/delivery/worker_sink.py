"""The sink of a worker process: what it has taken survives the process, however that ends.

A worker (a forked child, a process of multiprocessing) is often ended by its parent, which does not wait until the
worker's values are durable. So each value is written to a spool before the log call returns, without an fsync: the
files outlive the process, though not the machine. They are deleted when the values are durable. What a worker that has
died leaves is stored by its parent, or by the next process that logs to the same sink; see worker_spools.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Durable, Sink
from lumatile.spool.options import root_of, without_options
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue
from lumatile.wire.encoding import UnsendableError

log = logging.getLogger(__name__)

SEGMENT_SECONDS = 0.5
"""A segment of the spool takes values for this long, so that it can be deleted soon."""


Settled: TypeAlias = Callable[[Sequence[LoggedValue]], None]


def open_in_worker(url: str, settings: RecordingSettings, open_sink: Callable[[Settled], Sink]) -> WorkerSink:
    """Open the sink at `url` in a worker process.

    `open_sink`: opens the sink itself, and is given the function that it tells which values are settled. Raises as it
    does.
    """
    root = root_of(url)
    return WorkerSink(root, Spool(root, without_options(url), settings, synced=False), open_sink)


class WorkerSink:
    """A `Sink` in front of another one, which keeps each value in a spool until that one has settled it."""

    def __init__(
        self, root: Path, spool: Spool, open_sink: Callable[[Callable[[Sequence[LoggedValue]], None]], Sink]
    ) -> None:
        """Keep values in `spool`, whose directory will be in `root`; `open_sink`: as in `open_in_worker`."""
        self._spool = spool
        self._root = root
        self._lock = threading.RLock()
        """Held while the spool is written to or tidied."""
        self._writing = False
        """A value is being written: a signal handler that logs in the middle of it must not write too."""
        self._segment_ends = 0.0
        self._warned = False
        self._sink = open_sink(self._settled)

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`. When it returns, the value survives the end of this process."""
        self._keep(value)
        self._sink.put(value)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable; see `Sink.flush`."""
        return self._sink.flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; see `Sink.close`. Values that are not durable then stay in the spool."""
        try:
            self._sink.close(timeout)
        finally:
            with self._lock, suppress(OSError):
                self._spool.close()
                self._root.rmdir()  # if it is empty

    def _keep(self, value: LoggedValue) -> None:
        with self._lock:
            if self._writing:
                return
            self._writing = True
            try:
                now = time.monotonic()
                if now >= self._segment_ends:
                    self._spool.end_segment()
                    self._segment_ends = now + SEGMENT_SECONDS
                self._spool.append([value], sent=True)
            except (OSError, UnsendableError) as e:
                if not self._warned:
                    log.warning("values of this process are lost if it is killed before they are stored: %s", e)
                self._warned = True
            finally:
                self._writing = False

    def _settled(self, values: Sequence[LoggedValue]) -> None:
        """Forget values that need the spool no more: they are durable elsewhere, or will never be."""
        for value in values:
            last = value.seq if value.seq_last is None else value.seq_last
            for seq in range(value.seq, last + 1):
                self._spool.acknowledge(value.producer, seq)
        with self._lock:
            if not self._writing:
                self._spool.tidy()
