"""The files of a dataset: those in a directory or a bucket, or a single file."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from lumatile.errors import InvalidValueError
from lumatile.urls import scheme_of


class SourceFiles:
    """All files below a directory or URL, by their paths relative to it, with slashes. It can be pickled.

    A single file is treated as a directory that holds only that file.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """Look at a source.

        Args:
            source: A directory, a file, or the URL of one that Arrow has a file system for: file://, s3://, gs://.

        Raises:
            InvalidValueError: There is no directory or file at `source`.
        """
        text = os.fspath(source)
        try:
            if scheme_of(text):
                self._fs, self._root = fs.FileSystem.from_uri(text)
                self.url = text.rstrip("/")
            else:
                self._fs, self._root = fs.LocalFileSystem(), str(Path(text).absolute())
                self.url = Path(self._root).as_uri()
            found = self._fs.get_file_info(self._root)
        except (pa.ArrowException, OSError, ValueError) as e:
            raise InvalidValueError(f"a source must be a directory or file, or the URL of one: {text!r}: {e}") from e
        if found.type not in (fs.FileType.Directory, fs.FileType.File):
            raise InvalidValueError(f"a source must be a directory or file, or the URL of one, and {text!r} is none")
        self._root = self._root.rstrip("/")
        self.name = self._root.rpartition("/")[2] or "source"
        """The name of the directory or of the single file, without what is above it."""
        self._single = found.size if found.type is fs.FileType.File else None
        """The size of the single file in bytes; None: the source is a directory."""
        if self._single is not None:
            self._root = self._root.rpartition("/")[0]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Path of each file -> its size in bytes, in natural order: frame2 before frame10. Hidden files are left out.

        Raises:
            OSError: The directory cannot be listed.
        """
        if self._single is not None:
            return {self.name: self._single}
        start = len(self._root) + 1
        infos = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
        files = {info.path[start:]: info.size for info in infos if info.type is fs.FileType.File}
        shown = (path for path in files if not any(part.startswith(".") for part in path.split("/")))
        return {path: files[path] for path in sorted(shown, key=natural)}

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
        local = isinstance(self._fs, fs.LocalFileSystem)  # in a bucket it would ask for the size first
        opened = self._fs.open_input_file if local else self._fs.open_input_stream
        with opened(self._place(path)) as stream:
            content: bytes = stream.read(nbytes)
        return content

    def open(self, path: str) -> pa.NativeFile:
        """Open a file for reading at any position, as a context manager.

        Raises:
            FileNotFoundError: There is no such file, it is hidden, or the path leads out of the source.
            OSError: The file cannot be opened.
        """
        return self._fs.open_input_file(self._place(path))

    def _place(self, path: str) -> str:
        hidden = any(not part or part.startswith(".") for part in path.split("/"))  # ".." too
        if hidden or (self._single is not None and path != self.name):
            raise FileNotFoundError(f"there is no file {path!r} in {self.url}")
        return f"{self._root}/{path}"

    def uri(self, path: str) -> str:
        """Return the URL of a file."""
        return self.url if self._single is not None else f"{self.url}/{path}"


def natural(path: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names by their values."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]
