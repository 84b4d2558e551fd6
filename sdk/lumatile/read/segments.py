"""The segments of a recording as a reader meets them: listed, read, replaced by a merge, damaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lumatile.errors import CorruptStoreError, warn
from lumatile.format.frames_file import Frames
from lumatile.format.segment_names import FramesFile
from lumatile.storage.recording_storage import RecordingStorage

ATTEMPTS = 5
"""The number of looks for files that vanish while they are read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """The segments that one look at the storage has found."""

    names: frozenset[str]
    """The names of all committed segments."""
    frames: Mapping[str, Frames]
    """The content of the frames files that were not known yet, by segment, oldest first."""


class CommittedSegments:
    """The segments that a reader knows. For one thread at a time."""

    def __init__(self, storage: RecordingStorage, first: Sequence[FramesFile] | None = None) -> None:
        """`first`: the only segments of the first look; None: all."""
        self.damaged: dict[str, str] = {}
        """Segments that cannot be read, and why."""
        self._storage = storage
        self._committed = storage.watch()
        self._first = first
        """The segments that the next look is limited to; None: no limit."""
        self._names: frozenset[str] = frozenset()
        """The names of all segments at the last look that was learned."""
        self._replaces: dict[str, tuple[str, ...]] = {}
        """Which segments each known segment replaces."""

    def look(self) -> Look | None:
        """Read the frames files that are new; None: nothing has changed. Raises StoreFormatError, OSError.

        Newest first: segments that a merge has replaced need not be read.
        """
        frames: dict[str, Frames] = {}
        for _ in range(ATTEMPTS):
            files = {file.segment: file for file in self._listed()}
            replaced: set[str] = set()
            vanished = False
            for segment, file in reversed(files.items()):
                if segment in replaced:
                    self._replaces.setdefault(segment, ())
                elif segment not in self._replaces:
                    vanished |= not self._read(file, frames)
                    replaced.update(frames[segment].replaces if segment in frames else ())
            if not vanished:
                break
        if not frames and self._replaces.keys() <= files.keys():
            return None
        return Look(names=frozenset(files), frames={segment: frames[segment] for segment in files if segment in frames})

    def learn(self, look: Look) -> None:
        """Remember the segments of a look, whose rows the reader has now."""
        self._replaces.update({segment: each.replaces for segment, each in look.frames.items()})
        for gone in self._replaces.keys() - look.names:
            del self._replaces[gone]
        self._names = look.names

    def hidden(self, segments: Iterable[str]) -> set[str]:
        """Return the segments that do not count: those that another replaces, and those of `segments` that are gone."""
        replaced = {name for names in self._replaces.values() for name in names}
        return replaced | {name for name in segments if name not in self._names}

    def _listed(self) -> Sequence[FramesFile]:
        first, self._first = self._first, None
        return self._committed() if first is None else first

    def _read(self, file: FramesFile, frames: dict[str, Frames]) -> bool:
        """Read a frames file; False where it has vanished: it was merged into another one."""
        if file.segment in frames or file.segment in self.damaged:
            return True
        try:
            frames[file.segment] = self._storage.read_frames(file)
        except FileNotFoundError:
            return False
        except CorruptStoreError as e:
            self.damaged[file.segment] = str(e)
            warn(f"a damaged segment is left out: {e}")
        return True
