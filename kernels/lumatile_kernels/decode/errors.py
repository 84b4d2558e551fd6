"""The errors of reading image files."""

from __future__ import annotations


class DecodeError(ValueError):
    """A file is not an image, or truncated, corrupt, too large or unsupported; the message says which, and where."""


class DecoderUnavailableError(RuntimeError):
    """The requested decoder cannot run on this machine; the message gives the reason."""
