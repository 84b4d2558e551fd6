"""A store in a bucket: tiles objects are sent in parts, a commit is one conditional PUT, tiles are read by ranges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import pyarrow as pa

from lumatile.errors import CorruptStoreError, SinkError, StoreDeniedError, StoreError
from lumatile.format.frames_file import Frames, parse_frames
from lumatile.format.segment_names import (
    FramesFile,
    frames_files,
    new_segment_name,
    recording_directory_name,
    segment_time,
    tiles_name,
)
from lumatile.storage.object_client import ObjectClient
from lumatile.storage.object_file import ObjectFile
from lumatile.storage.object_tiles import ObjectTiles
from lumatile.storage.write_behind import WriteBehind

COMMITS = 3
"""The number of tries of a commit whose answer is lost, each with the client library's own retries."""

LISTING_SECONDS = 60.0
"""A watch lists the whole recording this often, and only the new segments in between."""

OVERLAP_NS = 300 * 10**9
"""A segment begun no longer than this before the newest known one may be new: clocks differ, commits take time."""


class ObjectDirectory:
    """The objects of one recording, a `RecordingStorage`."""

    cheap_commits = False

    def __init__(self, client: ObjectClient, name: str) -> None:
        """Use the folder `name` of the bucket."""
        self._client = client
        self._name = name
        self._unanswered: set[str] = set()
        """The segments whose commit was asked for, and may still happen."""
        self.missed = 0
        """The number of listed objects that turned out to be missing."""

    def __str__(self) -> str:
        """Return its URL."""
        return f"{self._client.url}/{self._name}"

    def tiles_path(self, segment: str) -> str:
        """Return the URL of a tiles object."""
        return f"{self._client.url}/{self._tiles_key(segment)}"

    def frames_path(self, file: FramesFile) -> str:
        """Return the URL of a frames object."""
        return f"{self._client.url}/{self._frames_key(file)}"

    def exists(self) -> bool:
        """Return whether anything was committed: there are no empty folders in a bucket."""
        return next(self._client.listing(f"{self._name}/frames"), None) is not None

    def committed(self) -> list[FramesFile]:
        """List all segments that have a frames object."""
        return self.listed(after="")

    def listed(self, *, after: str) -> list[FramesFile]:
        """List the segments that have a frames object, only those whose names come after `after`."""
        folder = f"{self._name}/frames"
        keys = (key for key, _ in self._client.listing(folder, after=f"{folder}/{after}" if after else None))
        return frames_files(key.rpartition("/")[2] for key in keys)

    def settle(self) -> None:
        """Do nothing: an object that can be seen is durable."""

    def watch(self) -> Callable[[], list[FramesFile]]:
        """Return a listing of new segments, which lists all of them once a minute and when an object is gone."""
        return _Watch(self)

    def read_frames(self, file: FramesFile) -> Frames:
        """Read and check a frames object."""
        try:
            content = self._client.get(self._frames_key(file))
        except FileNotFoundError:
            self.missed += 1
            raise
        return parse_frames(content, crc32c=file.crc32c, path=self.frames_path(file))

    def open_tiles(self, segment: str) -> ObjectTiles:
        """Open a tiles object by reading its end, which says where the rest is."""
        try:
            return ObjectTiles(self._client, self._tiles_key(segment))
        except FileNotFoundError:
            self.missed += 1
            raise

    def nbytes(self, files: Iterable[FramesFile]) -> int:
        """Return the size of the objects of segments, in bytes, by one listing of the recording."""
        names = {key for file in files for key in (self._frames_key(file), self._tiles_key(file.segment))}
        return sum(size for key, size in self._client.listing(self._name) if key in names)

    def unnamed(self, files: Iterable[FramesFile]) -> list[str]:
        """List the objects of a writer that died, or is at work."""
        named = {key for file in files for key in (self._frames_key(file), self._tiles_key(file.segment))}
        keys = (key for key, _ in self._client.listing(self._name))
        return sorted(f"{self._client.url}/{key}" for key in keys if key not in named)

    def create(self) -> None:
        """Try whether it can be written; there is nothing to create. Raises SinkError."""
        key = f"{self._name}/tiles/.{new_segment_name()}"
        try:
            self._client.put(key, b"")
            with suppress(
                StoreDeniedError
            ):  # credentials that may only write leave it there, and replaced segments too
                self._client.delete([key])
        except OSError as e:
            raise SinkError(f"the store cannot be written: {e}") from e

    def create_tiles(self, segment: str, disk: WriteBehind) -> ObjectFile:
        """Begin a tiles object."""
        return ObjectFile(self._client.upload(self._tiles_key(segment)), disk)

    def commit(self, file: FramesFile, content: pa.Buffer) -> None:
        """PUT the frames object where there is none; after a lost answer it may be there, with equal bytes."""
        key = self._frames_key(file)
        self._unanswered.add(file.segment)
        for attempt in range(COMMITS):
            if attempt:
                time.sleep(0.1 * 2**attempt)
            try:
                self._client.put(key, content, new=True)
            except FileExistsError:
                if self._client.get(key) != content.to_pybytes():
                    raise CorruptStoreError(f"{self.frames_path(file)} exists with other bytes") from None
            except StoreDeniedError:
                self._unanswered.discard(file.segment)
                raise
            except StoreError:
                if attempt == COMMITS - 1:
                    raise
                continue
            self._unanswered.discard(file.segment)
            return

    def discard(self, segment: str) -> None:
        """Delete the tiles object, unless its commit may still happen: it is garbage then, or that of a segment."""
        if segment not in self._unanswered:
            with suppress(OSError):
                self._client.delete([self._tiles_key(segment)])

    def delete(self, files: Iterable[FramesFile]) -> None:
        """Remove segments: their frames objects, one after another, then their tiles objects, together."""
        files = list(files)
        for file in files:
            self._client.delete([self._frames_key(file)])
        self._client.delete([self._tiles_key(file.segment) for file in files])

    def _frames_key(self, file: FramesFile) -> str:
        return f"{self._name}/frames/{file.name}"

    def _tiles_key(self, segment: str) -> str:
        return f"{self._name}/tiles/{tiles_name(segment)}"


class _Watch:
    """A listing of the committed segments for a caller that polls. For one thread at a time."""

    def __init__(self, directory: ObjectDirectory) -> None:
        self._directory = directory
        self._files: dict[str, FramesFile] = {}
        self._missed = 0
        self._listed: float | None = None
        """The time of the last whole listing, on the monotonic clock."""

    def __call__(self) -> list[FramesFile]:
        now, missed = time.monotonic(), self._directory.missed
        if self._listed is None or now - self._listed > LISTING_SECONDS or missed != self._missed:
            self._files = {file.segment: file for file in self._directory.committed()}
            self._listed, self._missed = now, missed
        else:
            newest = max((segment_time(segment) for segment in self._files), default=0)
            after = f"{max(0, newest - OVERLAP_NS):016x}"
            files = self._directory.listed(after=after)
            older = {segment: file for segment, file in self._files.items() if segment < after}
            self._files = older | {file.segment: file for file in files}
        return list(self._files.values())


class ObjectStore:
    """The recordings under a URL, a `StoreStorage`."""

    def __init__(self, url: str) -> None:
        """Use the objects under `url`, s3://bucket/prefix.

        Raises StoreError where the client library is missing or the URL is not valid.
        """
        self._client = ObjectClient(url)

    def __str__(self) -> str:
        """Return its URL."""
        return self._client.url

    def check(self) -> None:
        """Raise StoreError where the bucket cannot be listed. A prefix without objects is an empty store."""
        next(self._client.listing(""), None)

    def count(self) -> None:
        """Return None: only the server knows."""

    def recordings(self) -> list[ObjectDirectory]:
        """List the folders that hold a committed segment."""
        directories = (ObjectDirectory(self._client, name) for name in self._client.folders())
        return [directory for directory in directories if directory.exists()]

    def recording(self, recording_id: str) -> ObjectDirectory:
        """Return the folder of a recording."""
        return ObjectDirectory(self._client, recording_directory_name(recording_id))
