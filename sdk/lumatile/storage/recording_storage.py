"""Where recordings lie: the verbs that writing, reading and verifying ask for, on a disk and in a bucket alike."""

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

    def exists(self) -> bool:
        """Whether there is a recording."""
        ...

    def committed(self) -> list[FramesFile]:
        """All segments that have a frames file, in the order of their names; other files there are ignored."""
        ...

    def watch(self) -> Callable[[], list[FramesFile]]:
        """What `committed` gives, for one who asks again and again: a segment whose commit took minutes may be late."""
        ...

    def settle(self) -> None:
        """Make durable what `committed` has given: another writer's segment can be seen a little before it is."""
        ...

    def frames_path(self, file: FramesFile) -> Path | str:
        """A frames file: a path, or a URL."""
        ...

    def tiles_path(self, segment: str) -> Path | str:
        """The tiles file of a segment: a path, or a URL."""
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
        """Size of the files of segments, in bytes; what is gone counts nothing."""
        ...

    def unnamed(self, files: Iterable[FramesFile]) -> Sequence[Path | str]:
        """Files of the recording that are not of these segments."""
        ...

    def create(self) -> None:
        """Make it ready to be written. Raises SinkError where it cannot be."""
        ...

    def create_tiles(self, segment: str, disk: WriteBehind) -> TilesSink:
        """Begin a tiles file. `disk`: not used by anybody else until it is closed."""
        ...

    def commit(self, file: FramesFile, content: pa.Buffer) -> None:
        """Make a segment whose tiles file is finished visible and durable, with `content` as its frames file."""
        ...

    def discard(self, segment: str) -> None:
        """Leave nothing of a segment that was not committed, as far as that can be done."""
        ...

    def delete(self, files: Iterable[FramesFile]) -> None:
        """Remove segments: their frames files, in this order and durably, then their tiles files."""
        ...


class StoreStorage(Protocol):
    """The storage of a store; `str` of it is for messages."""

    def check(self) -> None:
        """Raises StoreError where there is no store that can be read."""
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
