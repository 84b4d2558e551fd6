"""Writing local files whole and making directory entries durable."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_whole(fd: int, pieces: Iterable[Any], position: int) -> None:
    """Write all `pieces` (objects with the buffer protocol), one after another, from byte `position` of a file on.

    Raises OSError; a part of the bytes may have been written then.
    """
    rest = [memoryview(piece).cast("B") for piece in pieces]
    while rest:
        count = os.pwritev(fd, rest, position)
        position += count
        while rest and count >= len(rest[0]):
            count -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][count:]


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
