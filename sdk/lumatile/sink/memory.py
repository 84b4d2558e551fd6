"""The sink behind memory://NAME: keeps the values of this process, for tests to look at."""

from __future__ import annotations

from collections import defaultdict

from lumatile.errors import SinkError
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue

VALUES: defaultdict[str, list[LoggedValue]] = defaultdict(list)
"""What was logged, by NAME, in the order it was put; sinks of one name share a list."""


class MemorySink:
    """A `Sink` into a list."""

    def __init__(self, values: list[LoggedValue]) -> None:
        """`values`: where they go."""
        self._values = values
        self._closed = False

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`."""
        if self._closed:
            raise SinkError("the sink is closed")
        self._values.append(value)

    def flush(self, timeout: float | None = None) -> Durable:  # noqa: ARG002
        """Everything is where it will ever be."""
        return "store"

    def close(self, timeout: float | None = None) -> None:  # noqa: ARG002
        """Take no more."""
        self._closed = True


def open_memory(url: str, settings: RecordingSettings) -> MemorySink:  # noqa: ARG001 - every sink gets them
    """The sink for `url`, memory://NAME."""
    return MemorySink(VALUES[url.removeprefix("memory://")])
