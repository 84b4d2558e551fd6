"""The storage of recordings: what writing, reading and verifying ask of a directory and of a bucket alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from lumatile.format.frames_file import Frames
    from lumatile.format.segment_names import FramesFile
    from lumatile.format.tiles_reader import TilesReader
    from lumatile.format.tiles_writer import TilesSink
    from lumatile.storage.write_behind import WriteBehind


class RecordingStorage(Protocol):
    """The storage of one recording. Every method may raise OSError; `str` of it is for messages."""

    @property
    def cheap_commits(self) -> bool:
        """Whether a commit costs so little that a value need not wait for others to share it."""
        ...

    def exists(self) -> bool:
        """Return whether there is a recording."""
        ...

    def committed(self) -> list[FramesFile]:
        """List all segments that have a frames file, in the order of their names; other files are ignored."""
        ...

    def watch(self) -> Callable[[], list[FramesFile]]:
        """Return a cheaper `committed` for a caller that polls: a segment whose commit took minutes may appear late."""
        ...

    def settle(self) -> None:
        """Make the segments that `committed` has listed durable: another writer's can be seen a little earlier."""
        ...

    def frames_path(self, file: FramesFile) -> Path | str:
        """Return the path or URL of a frames file."""
        ...

    def tiles_path(self, segment: str) -> Path | str:
        """Return the path or URL of the tiles file of a segment."""
        ...

    def read_frames(self, file: FramesFile) -> Frames:
        """Read and check a frames file.

        Raises FileNotFoundError where it is gone, CorruptStoreError where its bytes are not those that were written,
        StoreFormatError where it is of a newer format version.
        """
        ...

    def open_tiles(self, segment: str) -> TilesReader:
        """Open the tiles file of a segment. Raises FileNotFoundError where it is gone, CorruptStoreError."""
        ...

    def nbytes(self, files: Iterable[FramesFile]) -> int:
        """Return the size of the files of segments, in bytes; a file that is gone counts as 0."""
        ...

    def unnamed(self, files: Iterable[FramesFile]) -> Sequence[Path | str]:
        """List the files of the recording that do not belong to these segments."""
        ...

    def create(self) -> None:
        """Prepare it for writing. Raises SinkError where it cannot be written."""
        ...

    def create_tiles(self, segment: str, disk: WriteBehind) -> TilesSink:
        """Begin a tiles file. `disk` must not be used for anything else until the file is closed."""
        ...

    def commit(self, file: FramesFile, content: pa.Buffer) -> None:
        """Make a segment whose tiles file is finished visible and durable, with `content` as its frames file."""
        ...

    def discard(self, segment: str) -> None:
        """Remove what was written of a segment that was not committed, as far as possible."""
        ...

    def delete(self, files: Iterable[FramesFile]) -> None:
        """Remove segments: their frames files, in this order and durably, then their tiles files."""
        ...


class StoreStorage(Protocol):
    """The storage of a store; `str` of it is for messages."""

    def check(self) -> None:
        """Raise StoreError where there is no store that can be read."""
        ...

    def count(self) -> int | None:
        """Return the number of recordings where that takes no request to a server, else None. Raises OSError."""
        ...

    def recordings(self) -> Sequence[RecordingStorage]:
        """Return the storage of each recording, in the order of their names."""
        ...

    def recording(self, recording_id: str) -> RecordingStorage:
        """Return the storage of a recording, which need not exist.

        Raises InvalidValueError for an id that is too long.
        """
        ...
