"""The outlet of a stream: the part that opens, changes, flushes and closes its sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lumatile.errors import FlushError, InvalidValueError, LumatileError, SinkError, message_of
from lumatile.log import processes
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Durable, Sink, SinkAt, SinkFactory
from lumatile.values import LoggedValue
from lumatile_kernels import fork

T = TypeVar("T")


class Outlet:
    """The sink of a stream, opened at the first value; may be used from several threads."""

    def __init__(self, factory: SinkFactory, name: str) -> None:
        """Begin without a sink.

        `factory`: opens the sink. `name`: the id of the recording, for the messages when the process ends.
        """
        self.name = name
        """The id of the recording."""
        self._lock = threading.RLock()
        """Held while the sink is opened or changed, and for the fields below."""
        self._factory = factory
        processes.use(factory)
        self._sink: Sink | None = None
        self._contexts: dict[tuple[str, bool], tuple[LoggedValue, list[SinkFactory]]] = {}
        """The newest annotation contexts, each with the factories whose sinks have it: others are given it first."""
        self._refusal = ""
        """Why values are not taken; empty while they are."""
        self._lost = 0
        """Values that no sink took, and that no flush has reported yet."""
        self._why_lost = ""
        """The reason why the last of them was lost."""

    def renew(self) -> None:
        """Start again in a forked child, with the same factory; the parent's sink is not touched."""
        if self._sink is not None:
            processes.keep(self._sink)
        self._lock = threading.RLock()
        self._sink = None
        self._lost = 0

    @property
    def factory(self) -> SinkFactory:
        """The factory that opens the sink."""
        return self._factory

    @property
    def refusal(self) -> str:
        """The reason why values are not taken; empty while they are."""
        return self._refusal

    @property
    def lost(self) -> int:
        """The number of values that no sink took, and that no flush has reported yet."""
        return self._lost

    def put(self, value: LoggedValue, settings: RecordingSettings) -> None:
        """Give a value to the sink, which is opened with `settings` if it is not open.

        Raises LumatileError where no sink takes it; it counts as lost then.
        """
        try:
            if value.kind == "annotation_context":
                with self._lock:  # the sink does not change before it is noted
                    self._put(value, settings)
                    self._contexts[value.entity_path, value.time.timeless] = value, [self._factory]
            else:
                self._put(value, settings)
        except Exception as e:
            with self._lock:
                self._lost += 1
                self._why_lost = message_of(e)
            if isinstance(e, LumatileError):
                raise
            raise SinkError(message_of(e)) from e

    def _put(self, value: LoggedValue, settings: RecordingSettings) -> None:
        while True:
            sink = self._opened(settings)
            try:
                sink.put(value)
            except SinkError:
                if self._sink is sink:
                    raise
                # another thread has changed the sink in the meantime
            else:
                return

    def change(self, factory: SinkFactory, settings: RecordingSettings) -> None:
        """Flush and close the sink, and open the one of `factory`.

        Raises SinkError or InvalidValueError where it cannot be opened; when it is open, FlushError if not everything
        that was put before is durable.
        """
        failure: SinkError | None = None
        with self._lock:
            before, self._sink = self._sink, None
            try:
                self._settle(lambda: None if before is None else before.close())
            except SinkError as e:
                failure = e
            self._factory, self._refusal = factory, ""
            processes.use(factory)
            self._opened(settings)
        if failure is not None:
            raise failure

    def flush(self, timeout: float | None) -> Durable:
        """Wait until everything put before, here or in a worker of this process, is durable; see `Sink.flush`.

        Raises FlushError, also for values that no sink took.
        """
        with self._lock:
            sink = self._sink
        began = time.monotonic()
        own = self._settle(lambda: "store" if sink is None else sink.flush(timeout))
        if not isinstance(self._factory, SinkAt):
            return own
        left = None if timeout is None else max(0.0, began + timeout - time.monotonic())
        of_workers = self._factory.collect(self.name, left)
        return own if of_workers == "store" else of_workers

    def close(self, timeout: float | None) -> None:
        """Flush and close the sink; values are refused until `change`. Raises FlushError as `flush` does."""
        with self._lock:
            sink, self._sink = self._sink, None
            self._refusal = "the recording is disconnected; save or connect it first"
        processes.closed(self)
        self._settle(lambda: None if sink is None else sink.close(timeout))

    def _opened(self, settings: RecordingSettings) -> Sink:
        sink = self._sink
        if sink is not None:
            return sink
        with self._lock:
            if self._refusal:
                raise SinkError(self._refusal)
            if self._sink is None:
                processes.opened(self)
                try:
                    with fork.LOCK:  # much is imported
                        sink = self._factory(settings)
                    for context, given in self._contexts.values():
                        if self._factory not in given:
                            sink.put(context)
                            given.append(self._factory)
                    self._sink = sink
                except LumatileError as e:
                    self._refusal = str(e)
                    raise
                except Exception as e:
                    self._refusal = f"{self._factory} cannot be opened: {message_of(e)}"
                    raise (InvalidValueError if isinstance(e, ValueError) else SinkError)(self._refusal) from e
            return self._sink

    def _settle(self, wait: Callable[[], T]) -> T:
        """Return `wait()`; raise FlushError also for values that no sink took."""
        with self._lock:
            lost, self._lost = self._lost, 0
        try:
            result = wait()
        except FlushError as e:
            raise FlushError(e.undelivered + lost, e.reason, e.lost + lost) from e
        if lost:
            raise FlushError(lost, self._why_lost, lost)
        return result
