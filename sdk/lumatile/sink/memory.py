"""The sink for memory://NAME: it keeps the values of this process, so that tests can look at them."""

from __future__ import annotations

from collections import defaultdict

from lumatile.errors import SinkError
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue

VALUES: defaultdict[str, list[LoggedValue]] = defaultdict(list)
"""The logged values by NAME, in the order in which they were put; sinks of the same name share a list."""


class MemorySink:
    """A `Sink` that appends values to a list."""

    def __init__(self, values: list[LoggedValue]) -> None:
        """`values`: the list."""
        self._values = values
        self._closed = False

    def put(self, value: LoggedValue) -> None:
        """Append a value. Raises SinkError after `close`."""
        if self._closed:
            raise SinkError("the sink is closed")
        self._values.append(value)

    def flush(self, timeout: float | None = None) -> Durable:  # noqa: ARG002
        """Return "store": nothing more will happen to the values."""
        return "store"

    def close(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Take no further values."""
        self._closed = True


def open_memory(url: str, settings: RecordingSettings) -> MemorySink:  # noqa: ARG001 - every sink gets them
    """Open the sink for `url`, memory://NAME."""
    return MemorySink(VALUES[url.removeprefix("memory://")])
