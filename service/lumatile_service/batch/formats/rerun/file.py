"""Rerun's .rrd files, as chunks of rows. They are read by rerun-sdk, which knows older versions too.

The framing of a file is read here only if the file was cut off: a header of 12 bytes, then messages, each a kind and a
length of 8 bytes, little-endian, and as many bytes (rerun: re_log_encoding, rrd/frames.rs).
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pyarrow as pa

from lumatile.errors import InvalidValueError, LumatileError
from lumatile_service.batch.source_files import SourceFiles

HEADER_BYTES, MESSAGE_HEADER_BYTES = 12, 16

COPY_BYTES = 1 << 20
"""The number of bytes copied at once."""


class BrokenRrdError(LumatileError):
    """The .rrd file is truncated or corrupt, or the file is not a .rrd file."""


@dataclass(frozen=True, kw_only=True)
class RrdRecording:
    """A recording in a file."""

    application_id: str
    recording_id: str


@dataclass(frozen=True, kw_only=True)
class RrdChunk:
    """Rows of one entity."""

    id: str
    entity_path: str
    """The path as Rerun writes it: with a slash in front, and a backslash before other characters than letters and
    digits."""
    is_static: bool
    rows: pa.RecordBatch
    """Row ids, timelines and components; the fields' metadata tells them apart."""


class RrdFile:
    """An open file."""

    def __init__(self, path: Path, *, cut: Exception | None = None) -> None:
        """Open a file. `cut`: the error for which it is only a part of one.

        Raises BrokenRrdError; InvalidValueError without rerun-sdk.
        """
        self._reader, entries = _opened(path)
        self._entries = {
            RrdRecording(application_id=entry.application_id, recording_id=entry.recording_id): entry
            for entry in entries
        }
        self.cut = cut

    @property
    def recordings(self) -> list[RrdRecording]:
        """The recordings in the file, without blueprints."""
        return list(self._entries)

    def chunks(self, recording: RrdRecording, *, entity_path: str | None = None) -> Iterator[RrdChunk]:
        """Yield the chunks of a recording in the order of the file. `entity_path`: only those of one entity; None: all.

        Raises BrokenRrdError after the last chunk that can be read.
        """
        try:
            stream = self._reader.stream(store=self._entries[recording])
            for chunk in stream if entity_path is None else stream.filter(content=entity_path):
                yield RrdChunk(
                    id=chunk.id,
                    entity_path=chunk.entity_path,
                    is_static=chunk.is_static,
                    rows=chunk.to_record_batch(),
                )
        except (RuntimeError, ValueError) as e:
            raise BrokenRrdError(f"the .rrd file cannot be read to its end: {e}") from e


@contextmanager
def opened_rrd(files: SourceFiles, path: str) -> Iterator[RrdFile]:
    """Open a file of a source, or a copy of a file in a bucket, in the system's directory for temporary files.

    Of a file that was cut off, the complete messages are opened. Raises BrokenRrdError, InvalidValueError, OSError.
    """
    with tempfile.TemporaryDirectory(prefix="lumatile-rrd-") as directory:
        local = _local(files, path) or _copied(files, path, Path(directory), files.sizes[path])
        try:
            opened = RrdFile(local)
        except BrokenRrdError as e:
            whole = _whole_bytes(local)
            if not HEADER_BYTES < whole < local.stat().st_size:
                raise
            opened = RrdFile(_copied(files, path, Path(directory), whole), cut=e)
        yield opened


def _opened(path: Path) -> tuple[Any, Sequence[Any]]:
    """Return rerun-sdk's reader of a file, and its entries of the recordings in it."""
    try:
        from rerun.chunk import RrdReader
    except ModuleNotFoundError as e:
        raise InvalidValueError("a Rerun recording needs rerun-sdk: install lumatile[rerun]") from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a file without a footer: it was not closed, but can be read
            reader = RrdReader(path)
            return reader, reader.recordings()
    except (RuntimeError, ValueError, OSError) as e:
        raise BrokenRrdError(f"the .rrd file cannot be read: {str(e).replace(str(path), path.name)}") from e


def _local(files: SourceFiles, path: str) -> Path | None:
    """Return the path of a file on this machine; None: it is elsewhere."""
    if not files.url.startswith("file:"):
        return None
    root = Path(url2pathname(urlsplit(files.url).path))
    found = root if files.uri(path) == files.url else root / path
    return found if found.is_file() else None


def _copied(files: SourceFiles, path: str, directory: Path, nbytes: int) -> Path:
    """Copy the first bytes of a file into a file of the same name."""
    copy = directory / Path(path).name
    with files.open(path) as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
        target.truncate(nbytes)
    return copy


def _whole_bytes(path: Path) -> int:
    """Return the number of bytes up to the end of the last complete message."""
    size = path.stat().st_size
    end = HEADER_BYTES
    with path.open("rb") as file:
        while end + MESSAGE_HEADER_BYTES <= size:
            file.seek(end + 8)
            length = int.from_bytes(file.read(8), "little")
            if end + MESSAGE_HEADER_BYTES + length > size:
                break
            end += MESSAGE_HEADER_BYTES + length
    return end
