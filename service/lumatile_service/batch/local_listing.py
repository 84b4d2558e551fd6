"""The files below a directory of this machine, whatever is in it: links to itself, names in other encodings."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from pathlib import Path

NOTHING, ABOVE = "links to nothing", "links to a directory above them"

Identity = tuple[int, int]
"""The device and the inode of a directory."""


class LocalListing:
    """The files below a directory. Paths are relative to it, in UTF-8; other bytes are backslash escapes."""

    def __init__(self, root: str) -> None:
        """List a directory. Raises OSError if it cannot be listed itself."""
        self.sizes: dict[str, int] = {}
        """Path of each file -> its size in bytes."""
        self.actual: dict[str, str] = {}
        """Path -> the path on the disk, of those that are not UTF-8."""
        self.unlisted: dict[str, str] = {}
        """Path of each directory that could not be listed -> the reason."""
        self.left_out: defaultdict[str, list[str]] = defaultdict(list)
        """Reason -> the paths that are left out for it."""
        self._open = [("", frozenset({_identity(root)}), self._entries(root))]
        """The directories to look into: path, with a slash; it and those above it; what is in it."""
        while self._open:
            directory, above, entries = self._open.pop()
            for entry in entries:
                if not entry.name.startswith("."):
                    self._add(directory + entry.name, entry, above)

    def _add(self, path: str, entry: os.DirEntry[str], above: frozenset[Identity]) -> None:
        name = as_utf8(path)
        try:
            if entry.is_dir():
                identity = _identity(entry.path)
                if identity in above:
                    self.left_out[ABOVE].append(name)
                else:
                    self._open.append((f"{path}/", above | {identity}, self._entries(entry.path)))
            elif entry.is_file():
                self.sizes[name] = entry.stat().st_size
                if name != path:
                    self.actual[name] = path
            elif entry.is_symlink() and not Path(entry.path).exists():
                self.left_out[NOTHING].append(name)
        except OSError as e:
            if e.errno == errno.ELOOP:
                self.left_out[NOTHING].append(name)
            else:
                self.unlisted[name] = f"{type(e).__name__}: {e.strerror}"

    @staticmethod
    def _entries(path: str) -> list[os.DirEntry[str]]:
        with os.scandir(path) as entries:
            return list(entries)


def _identity(path: str) -> Identity:
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def as_utf8(path: str) -> str:
    """Return a path of the disk in UTF-8; its other bytes become backslash escapes."""
    return os.fsencode(path).decode(errors="backslashreplace")
