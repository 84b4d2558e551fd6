"""The errors and the warning of this package.

    LumatileError
    +-- InvalidValueError (ValueError)      a value breaks a rule; the message is the rule and the value
    +-- InvalidTypeError (TypeError)        a type or dtype breaks a rule
    +-- ImageFileError (ValueError)         not an image, truncated, corrupt, over the pixel limit
    +-- ImageFileNotFoundError (FileNotFoundError)
    +-- SinkError (OSError)                 a sink cannot be opened, or has died
    |   +-- FlushError                      not all values are durable; `undelivered` says how many
    +-- StoreError (OSError)                a store cannot be read
    |   +-- StoreFormatError                it is no store, or its format is newer than this package
    |   +-- CorruptStoreError               bytes are not those that were written
    |   +-- StoreDeniedError (PermissionError)   access is denied
    +-- NotFoundError (KeyError)            no such recording, timeline, frame or tile
    +-- SourceNotKeptError                  logged with keep_source=False, and the tiles do not give it back

In lenient mode a bad log call gives a LumatileWarning instead of an error.
"""

from __future__ import annotations

import re
import sys
import warnings

PACKAGES = ("lumatile", "lumatile_kernels", "lumatile_service")
"""Packages whose lines a warning does not point at."""

SHOWN = 120
"""The most characters of a received value in a message."""


class LumatileError(Exception):
    """The base of all errors of this package."""


class LumatileWarning(UserWarning):
    """A call did not log what was asked; the message says why."""


class InvalidValueError(LumatileError, ValueError):
    """A value breaks a rule."""


class InvalidTypeError(LumatileError, TypeError):
    """A type or dtype breaks a rule."""


class ImageFileError(LumatileError, ValueError):
    """A file is not an image, or is truncated, corrupt or larger than the pixel limit."""


class ImageFileNotFoundError(LumatileError, FileNotFoundError):
    """An image file cannot be read."""


class SinkError(LumatileError, OSError):
    """A sink cannot be opened, or has died."""


class FlushError(SinkError):
    """Not all values logged before the flush are durable.

    Attributes:
        undelivered: The number of values that are not.
        reason: Why they are not.
        lost: How many of them never will be, because they were dropped or refused; they are counted once.
    """

    def __init__(self, undelivered: int, reason: str, lost: int = 0) -> None:
        """Take the number of values logged before the flush that are not durable, the reason, and how many are lost."""
        super().__init__(f"{undelivered} logged values are not durable: {reason}")
        self.undelivered = undelivered
        self.reason = reason
        self.lost = lost

    def __reduce__(self) -> tuple[type[FlushError], tuple[int, str, int]]:
        return FlushError, (self.undelivered, self.reason, self.lost)


class StoreError(LumatileError, OSError):
    """A store cannot be read."""


class StoreFormatError(StoreError):
    """A directory is no store, or a store of a newer format version."""


class CorruptStoreError(StoreError):
    """Bytes in a store are not those that were written."""


class StoreDeniedError(StoreError, PermissionError):
    """Access to a store is denied, with these credentials or without any."""


class NotFoundError(LumatileError, KeyError):
    """There is no such recording, entity, timeline, frame or tile."""

    def __str__(self) -> str:
        """Return the message, without KeyError's quotes."""
        return str(self.args[0]) if self.args else ""


class SourceNotKeptError(LumatileError):
    """The logged bytes were not kept (keep_source=False), and the tiles do not give them back exactly."""


def warn(message: str) -> None:
    """Give a LumatileWarning that points at the user's line: the nearest call from outside these packages."""
    level, frame = 1, sys._getframe()  # noqa: SLF001 - the documented way to a caller's frame
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in PACKAGES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, LumatileWarning, stacklevel=level)


def message_of(error: Exception) -> str:
    """Return the message of any error in valid UTF-8, with its type's name in front unless it is a LumatileError.

    Addresses of objects are left out, so that equal errors have equal messages.
    """
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - any error may come, and any str may fail
        text = ""
    text = re.sub(r" at 0x[0-9a-fA-F]+(?=>)", "", text.encode(errors="backslashreplace").decode())
    return text if isinstance(error, LumatileError) else f"{type(error).__name__}: {text}"


def shown(value: object) -> str:
    """Return a received value as a message shows it: short, in valid UTF-8, whatever object it is."""
    try:
        text = repr(value[:SHOWN] if isinstance(value, str | bytes) else value)
    except Exception:  # noqa: BLE001 - any object may come, and any repr may fail
        text = f"an object of type {type(value).__name__}"
    text = " ".join(text.encode(errors="backslashreplace").decode().split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
