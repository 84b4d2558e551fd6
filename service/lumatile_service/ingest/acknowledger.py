"""The server's side of a stream: acknowledgements and heartbeats."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa
from pyarrow import flight

from lumatile.wire.acknowledgements import HEARTBEAT_SECONDS, Acknowledgement, ranges
from lumatile.wire.protocol import Refused

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""Acknowledgements of values that become durable within this time share a message."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """The health of a recording, or of a server."""

    failures: int = 0
    """Failed attempts to write since some time; the writer goes on trying."""
    failure: str = ""
    """Why the last one failed."""
    ended: str = ""
    """Why no more values are taken; empty while they are."""


class Acknowledger:
    """Sends acknowledgements and heartbeats from its own thread: the writing thread must never wait for a client."""

    def __init__(self, writer: flight.MetadataRecordBatchWriter) -> None:
        """Send with `writer`, that of the stream."""
        self._writer = writer
        self._health: Callable[[], Health] = Health
        self._told = 0
        """The number of failures that the client has been told."""
        self._changed = threading.Condition()
        self._durable: list[tuple[bytes, int]] = []
        self._refused: list[Refused] = []
        self._over = False
        self._thread = threading.Thread(target=self._run, name="lumatile-acknowledge", daemon=True)

    def watch(self, health: Callable[[], Health]) -> None:
        """Send `health` with every heartbeat from now on; failures before now do not count."""
        before = health().failures

        def since() -> Health:
            now = health()
            return replace(now, failures=now.failures - before)

        self._health = since

    def acknowledge(self, producer: bytes, seq: int) -> None:
        """Acknowledge a durable value."""
        with self._changed:
            self._durable.append((producer, seq))
            self._changed.notify()

    def refuse(self, refused: Refused) -> None:
        """Tell the client that a value will never be stored."""
        log.warning("a value was refused: %s", refused.reason)
        with self._changed:
            self._refused.append(refused)
            self._changed.notify()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        over = False
        while not over:
            with self._changed:
                if self._changed.wait_for(lambda: self._durable or self._refused or self._over, HEARTBEAT_SECONDS):
                    self._changed.wait_for(lambda: self._over, GATHER_SECONDS)
                durable, self._durable = self._durable, []
                refused, self._refused = self._refused, []
                over = self._over
            health = self._health()
            message = Acknowledgement(
                durable=ranges(durable),
                refused=tuple(refused),
                failures=health.failures - self._told,
                failure=health.failure if health.failures > self._told else "",
                ended=health.ended,
            )
            self._told = health.failures
            try:
                self._writer.write_metadata(message.encode())
            except (pa.ArrowException, OSError) as e:
                log.debug("acknowledgements cannot be sent: %s", e)
                return
