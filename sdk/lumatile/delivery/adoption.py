"""Storing what is in the spools that processes have left behind when they died, or sending it to a service."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lumatile.delivery.flight_sink import FlightSink
from lumatile.errors import FlushError, LumatileError
from lumatile.sink.sinks import STORE_SCHEMES
from lumatile.spool.directory import SpoolBusyError, describe, spools
from lumatile.spool.spool import Spool
from lumatile.urls import scheme_of

log = logging.getLogger(__name__)

PUSH_BYTES = 32 << 20
"""The memory that sending a spool takes at most, in bytes."""

AGAIN_SECONDS = 1.0
"""The time between attempts to reach a service that is away."""


TAKE_OVER = "lumatile_service.embedded.take_over:take_over"
"""What stores a spool in a store: takes the spool, the store's URL and the longest wait; returns the values refused."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """The outcome of sending a spool."""

    path: Path
    url: str
    """The URL of the service, or of the store."""
    values: int
    """The number of values that it has stored, had stored before, or has refused."""
    damaged: int
    """The number of values that could not be read, as far as is known."""
    refused: int
    """The number of values that it has refused."""
    left: int
    """The bytes that are still in the spool."""
    why: str = ""
    """Why something is left; empty: nothing is."""


def push(
    path: Path,
    url: str | None = None,
    *,
    addresses: Callable[[], Sequence[str]] | None = None,
    go_on: Callable[[], bool] = lambda: False,
    timeout: float | None = None,
) -> Pushed:
    """Send a spool to a service, or store it, and delete what has arrived.

    Args:
        path: the spool's directory.
        url: of the service; None: the sink that the values were logged for.
        addresses: as in FlightSink.
        go_on: called when the service does not take values; returns whether to try again.
        timeout: seconds to wait at most, for a store; None: unlimited.

    Raises:
        SpoolBusyError: the process that writes the spool is alive.
        SpoolError: the spool cannot be read.
    """
    spool = Spool.adopt(path)
    url = url or spool.url
    if (scheme_of(url) or "file") in STORE_SCHEMES:
        return _stored(spool, path, url, timeout)
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
        why = sink.failure or f"{url} accepts connections but makes no progress"
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


def _stored(spool: Spool, path: Path, url: str, timeout: float | None) -> Pushed:
    """Store a spool in the store at `url`."""
    module, function = TAKE_OVER.split(":")
    refused, why = 0, ""
    try:
        refused = getattr(importlib.import_module(module), function)(spool, url, timeout)
    except (LumatileError, OSError) as e:
        why = str(e)
    finally:
        spool.close()
    return Pushed(
        path=path,
        url=url,
        why=why,
        values=spool.acknowledged,
        damaged=spool.damaged,
        refused=refused,
        left=spool.nbytes,
    )


class Adoption:
    """Sends spools of dead processes in the background, as soon as the service that they are for answers."""

    def __init__(self, roots: Sequence[Path], url: str, addresses: Callable[[], Sequence[str]] | None) -> None:
        """`roots`: the directories of spools; `url`, `addresses`: of the service, as in FlightSink."""
        self._roots = roots
        self._url = url
        self._addresses = addresses
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look for spools, unless a thread is doing so."""
        if self._ended.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name="lumatile-adopt", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as e:  # the process may have no more threads now
            log.warning("spools are not looked for now: %s", e)

    def end(self) -> None:
        """Stop soon; the next process sends the rest."""
        self._ended.set()

    def _run(self) -> None:
        for path in (path for root in self._roots for path in spools(root)):
            if self._ended.is_set():
                return
            try:
                if describe(path)[0] == self._url:
                    self._push(path)
            except SpoolBusyError:
                continue
            except (LumatileError, OSError) as e:
                log.warning("a spool is skipped: %s", e)

    def _push(self, path: Path) -> None:
        pushed = push(path, addresses=self._addresses, go_on=self._go_on)
        if pushed.values or pushed.damaged:
            log.info("%s: %d values of a process that has ended were sent", path, pushed.values)

    def _go_on(self) -> bool:
        return not self._ended.wait(AGAIN_SECONDS)
