"""The listeners of an embedded sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lumatile.values import LoggedValue
from lumatile_service.embedded.error_reasons import ErrorReason


def _admit_all(value: LoggedValue) -> LoggedValue:
    return value


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Listeners:
    """Functions that the embedded sink calls."""

    admit: Callable[[LoggedValue], LoggedValue | None] = _admit_all
    """Given each value that is put; returns the value to store, or None where it is stored already."""
    on_durable: Callable[[Sequence[LoggedValue], int], None] = _ignore
    """Given all values of a segment when they are durable, and the size of its files in bytes; in the writing thread,
    before a flush that waits for them returns."""
    on_error: Callable[[ErrorReason], None] = _ignore
    """Given the reason of each fault; from any thread of the sink."""
