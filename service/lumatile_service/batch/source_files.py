"""The files of a dataset: those in a directory or a bucket, or a single file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from lumatile.errors import InvalidValueError, shown
from lumatile.urls import scheme_of
from lumatile_service.batch.local_listing import LocalListing, as_utf8

RETRY_SECONDS = 30
"""How long a request to Google Cloud Storage is tried again, in seconds; by itself, Arrow tries for 15 minutes."""


KINDS = {fs.FileType.File: stat.S_IFREG, fs.FileType.Directory: stat.S_IFDIR}


class SourceFiles:
    r"""All files below a directory or URL, by their paths relative to it, with slashes. It can be pickled.

    A single file is treated as a directory that holds only that file. In a path that is not UTF-8, the other bytes are
    written as backslash escapes: "r\xe9.png".
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """Look at a source.

        Args:
            source: A directory, a file, or the URL of one that Arrow has a file system for: file://, s3://, gs://.

        Raises:
            InvalidValueError: There is no directory or file at `source`.
        """
        text = os.fspath(source)
        if not text:
            raise InvalidValueError('a source must be a directory or file, or the URL of one, not ""')
        scheme = scheme_of(text)
        try:
            if scheme in (None, "file"):
                self._fs = None
                self._root = _local_path(unquote(urlsplit(text).path) if scheme else text)
                self.url = Path(self._root).as_uri()
                found = Path(self._root).stat()
                kind, size = stat.S_IFMT(found.st_mode), found.st_size
            else:
                self._fs, self._root = fs.FileSystem.from_uri(_with_limits(text))
                self.url = text.partition("?")[0].rstrip("/")
                info = self._fs.get_file_info(self._root)
                kind, size = KINDS.get(info.type, 0), info.size
        except ImportError as e:
            raise InvalidValueError(f"a source of {scheme}:// needs another package: {e}") from e
        except (pa.ArrowException, OSError, ValueError) as e:
            reason = f"a source must be a directory or file, or the URL of one: {shown(text)}: {e}"
            raise InvalidValueError(reason) from e
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise InvalidValueError(f"a source must be a directory or file, and {shown(text)} is none")
        is_file = kind == stat.S_IFREG
        self._root = self._root.rstrip("/")
        self.name = as_utf8(self._root.rpartition("/")[2]) or "source"
        """The name of the directory or of the single file, without what is above it."""
        self._single: int | None = size if is_file else None
        """The size of the single file in bytes; None: the source is a directory."""
        self._actual = {self.name: self._root.rpartition("/")[2]} if is_file else {}
        """Path -> the path on the disk, of those that are not UTF-8, and of a single file."""
        self.unlisted: dict[str, str] = {}
        """Path of each directory that could not be listed -> the reason; known once `sizes` is."""
        self.left_out: Mapping[str, Sequence[str]] = {}
        """Kind of links that are not followed -> their paths; known once `sizes` is."""
        if self._single is not None:
            self._root = self._root.rpartition("/")[0]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Path of each file -> its size in bytes, in natural order: frame2 before frame10. Hidden files are left out.

        Links are followed, except for those to a directory above them. These, and links to nothing, are in `left_out`.

        Raises:
            OSError: The directory cannot be listed.
        """
        if self._single is not None:
            return {self.name: self._single}
        if self._fs is None:
            listing = LocalListing(self._root or "/")
            self._actual, self.unlisted, self.left_out = listing.actual, listing.unlisted, listing.left_out
            files = listing.sizes
        else:
            start = len(self._root) + 1
            infos = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
            files = {info.path[start:]: info.size for info in infos if info.type is fs.FileType.File}
        visible = (path for path in files if not any(part.startswith(".") for part in path.split("/")))
        return {path: files[path] for path in sorted(visible, key=natural)}

    def under(self, directory: str, *suffixes: str) -> list[str]:
        """Return the paths of the files in a directory and below it that end with one of `suffixes`.

        Args:
            directory: The path of a directory in the source; "": the source itself.
            suffixes: Endings in lower case; files with upper-case letters in them match too.
        """
        prefix = directory.rstrip("/") + "/" if directory else ""
        return [path for path in self.sizes if path.startswith(prefix) and path.lower().endswith(suffixes)]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the list of files, which may be long: a process that needs it lists them again."""
        return {name: value for name, value in self.__dict__.items() if name != "sizes"}

    def read(self, path: str, nbytes: int | None = None) -> bytes:
        """Return the content of a file: its first `nbytes` bytes, or all of them if that is None.

        Raises:
            FileNotFoundError: There is no such file, it is hidden, or the path leads out of the source.
            OSError: The file cannot be read.
        """
        place = self._place(path)
        with Path(place).open("rb") if self._fs is None else self._fs.open_input_stream(place) as stream:
            content: bytes = stream.read(nbytes)
        return content

    def open(self, path: str) -> pa.NativeFile:
        """Open a file for reading at any position, as a context manager.

        Raises:
            FileNotFoundError: There is no such file, it is hidden, or the path leads out of the source.
            OSError: The file cannot be opened.
        """
        place = self._place(path)
        if self._fs is not None:
            return self._fs.open_input_file(place)
        if place == as_utf8(place):
            return pa.OSFile(place)
        return pa.PythonFile(Path(place).open("rb"))  # Arrow's own files have names in UTF-8

    def _place(self, path: str) -> str:
        hidden = any(not part or part.startswith(".") for part in path.split("/"))  # ".." too
        if hidden or (self._single is not None and path != self.name):
            raise FileNotFoundError(f"there is no file {path!r} in {self.url}")
        return f"{self._root}/{self._actual.get(path, path)}"

    def uri(self, path: str) -> str:
        """Return the URL of a file."""
        return self.url if self._single is not None else f"{self.url}/{path}"


def _local_path(path: str) -> str:
    """Return an absolute path without "..": it names the same directory, and a link to it keeps its own name."""
    expanded = Path(path).expanduser().absolute()
    plain = os.path.normpath(expanded)
    return (
        plain if ".." not in expanded.parts or Path(plain).resolve() == expanded.resolve() else str(expanded.resolve())
    )


def _with_limits(url: str) -> str:
    """Return a URL with which Arrow says after some time that a bucket cannot be reached."""
    if scheme_of(url) not in ("gs", "gcs") or "retry_limit_seconds" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}retry_limit_seconds={RETRY_SECONDS}"


def natural(path: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names by their values."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]
