"""What reading an image file raises."""

from __future__ import annotations


class DecodeError(ValueError):
    """A file is no image, truncated, corrupt, too large or of an unsupported kind; the message says which and where."""


class DecoderUnavailableError(RuntimeError):
    """The decoder that was asked for cannot run on this machine; the message says why."""
