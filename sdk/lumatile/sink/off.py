"""The sink for off://: it keeps nothing."""

from __future__ import annotations

from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue


class OffSink:
    """A `Sink` that forgets values at once."""

    def put(self, value: LoggedValue) -> None:
        """Forget a value."""

    def flush(self, timeout: float | None = None) -> Durable:  # noqa: ARG002
        """Return "store": nothing is left to be stored."""
        return "store"

    def close(self, timeout: float | None = None) -> None:
        """Do nothing."""


def open_off(url: str, settings: RecordingSettings) -> OffSink:  # noqa: ARG001 - every sink gets them
    """Open the sink."""
    return OffSink()
