"""The files of a dataset, in a directory or a bucket; or one file alone."""

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
    """All files under a directory or URL, by their paths in it, with slashes. It can be pickled.

    A file stands for a directory with only that file.
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        """`source`: a directory or a file, or a URL that Arrow has a file system for: file://, s3://, gs://.

        Raises InvalidValueError where there is nothing of the kind.
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
        """The directory's own name, or the file's."""
        self._single = found.size if found.type is fs.FileType.File else None
        """Bytes of the one file that it is."""
        if self._single is not None:
            self._root = self._root.rpartition("/")[0]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Path of each file -> its bytes, in the order of people: frame2 before frame10. Hidden ones are left out.

        Raises OSError.
        """
        if self._single is not None:
            return {self.name: self._single}
        start = len(self._root) + 1
        infos = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True))
        files = {info.path[start:]: info.size for info in infos if info.type is fs.FileType.File}
        shown = (path for path in files if not any(part.startswith(".") for part in path.split("/")))
        return {path: files[path] for path in sorted(shown, key=natural)}

    def under(self, directory: str, *suffixes: str) -> list[str]:
        """The paths of the files in a directory, and below it, that end with one of `suffixes` in any case."""
        prefix = directory.rstrip("/") + "/" if directory else ""
        return [path for path in self.sizes if path.startswith(prefix) and path.lower().endswith(suffixes)]

    def __getstate__(self) -> dict[str, Any]:
        """Without the list of files, which may be long: what has been sent to another process reads them."""
        return {name: value for name, value in self.__dict__.items() if name != "sizes"}

    def read(self, path: str) -> bytes:
        """What a file holds. Raises OSError; FileNotFoundError too for what is hidden, and for a path out of it."""
        local = isinstance(self._fs, fs.LocalFileSystem)  # a bucket would be asked for the size first
        opened = self._fs.open_input_file if local else self._fs.open_input_stream
        with opened(self._place(path)) as stream:
            content: bytes = stream.read()
        return content

    def open(self, path: str) -> pa.NativeFile:
        """A file that can be sought in, for what is not read as a whole. A context manager. Raises as `read` does."""
        return self._fs.open_input_file(self._place(path))

    def _place(self, path: str) -> str:
        hidden = any(not part or part.startswith(".") for part in path.split("/"))  # ".." too
        if hidden or (self._single is not None and path != self.name):
            raise FileNotFoundError(f"there is no file {path!r} in {self.url}")
        return f"{self._root}/{path}"

    def uri(self, path: str) -> str:
        """The URL of a file."""
        return self.url if self._single is not None else f"{self.url}/{path}"


def natural(path: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their values."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]
