"""Sending what dead processes have left in their spools."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lumatile.delivery.flight_sink import FlightSink
from lumatile.errors import FlushError, LumatileError
from lumatile.spool.directory import SpoolBusyError, describe, spools
from lumatile.spool.spool import Spool

log = logging.getLogger(__name__)

PUSH_BYTES = 32 << 20
"""Memory that sending a spool takes, at most, in bytes."""

AGAIN_SECONDS = 1.0
"""Time between looks at a service that is away."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What became of a spool."""

    path: Path
    url: str
    """Of the service."""
    values: int
    """Values that the service has decided on: stored, or had already, or refused."""
    damaged: int
    """Values that could not be read, as far as is known."""
    refused: int
    """Values that the service does not take."""
    left: int
    """Bytes that are still there."""
    why: str = ""
    """Why something is left."""


def push(
    path: Path,
    url: str | None = None,
    *,
    addresses: Callable[[], Sequence[str]] | None = None,
    go_on: Callable[[], bool] = lambda: False,
) -> Pushed:
    """Send the spool at `path` to the service at `url`, by default the one it is for; what has arrived is deleted.

    `addresses`: as in FlightSink. `go_on`: asked whether to go on when the service does not take values.
    Raises SpoolBusyError where its writer is alive, SpoolError where it cannot be read.
    """
    spool = Spool.adopt(path)
    url = url or spool.url
    sink = FlightSink(url, replace(spool.settings, queue_bytes=PUSH_BYTES), addresses=addresses, spool=spool)
    refused = 0
    why = ""
    done = False
    while not done:
        before = spool.acknowledged, spool.damaged
        try:
            done = sink.flush() == "store"
        except FlushError as e:
            refused += e.undelivered
            if before != (spool.acknowledged, spool.damaged):
                continue
        if not done and not go_on():
            break
    if not done:
        why = sink.failure or f"{url} does not get on"
    sink.close(0)
    damaged = spool.damaged
    return Pushed(
        path=path,
        url=url,
        values=spool.acknowledged,
        damaged=damaged,
        refused=max(0, refused - damaged),
        left=spool.nbytes,
        why=why,
    )


class Adoption:
    """Sends, in the background, the spools of dead processes for one service, when that answers."""

    def __init__(self, root: Path, url: str, addresses: Callable[[], Sequence[str]] | None) -> None:
        """`root`: where the spools are; `addresses`: as in FlightSink."""
        self._root = root
        self._url = url
        self._addresses = addresses
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look for spools, unless that is going on."""
        if self._ended.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name="lumatile-adopt", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as e:  # the process may have no more threads now
            log.warning("spools are not looked for now: %s", e)

    def end(self) -> None:
        """Stop soon; what is not sent is left to the next process."""
        self._ended.set()

    def _run(self) -> None:
        for path in spools(self._root):
            if self._ended.is_set():
                return
            try:
                if describe(path)[0] == self._url:
                    self._push(path)
            except SpoolBusyError:
                continue
            except (LumatileError, OSError) as e:
                log.warning("a spool is left alone: %s", e)

    def _push(self, path: Path) -> None:
        pushed = push(path, addresses=self._addresses, go_on=self._go_on)
        if pushed.values or pushed.damaged:
            log.info("%s: %d values of a process that is gone were sent", path, pushed.values)

    def _go_on(self) -> bool:
        return not self._ended.wait(AGAIN_SECONDS)
