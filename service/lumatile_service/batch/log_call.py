"""What a reader of a dataset gives: log calls, before their content is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import LumatileError, LumatileWarning
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.source_files import SourceFiles


class DatasetWarning(LumatileWarning):
    """Something of a dataset is not logged, and is no error."""


@dataclass(frozen=True, kw_only=True)
class LogCall:
    """One value of a dataset: where it goes, where it is, and how it is logged. It can be pickled if its parts can."""

    entity_path: str
    kind: Kind
    """What `log` logs."""
    uri: str
    """Of the file that it is in."""
    read: Callable[[], bytes]
    """The bytes that it is made from, which are hashed; of a file its content. May raise."""
    log: Callable[[RecordingStream, str, bytes], None]
    """Logs `bytes` at an entity path: one call of the recording. What it raises becomes an error row."""
    member: str | None = None
    """Which part of the file it is, if not all of it."""
    beside: bytes = b""
    """What else it is made from and `log` knows already, a label for example: hashed behind the bytes of `read`."""
    nbytes: int = 0
    """About what `read` gives, for the plan."""
    file_nbytes: int | None = None
    """How much of the file that is, where `read` gives it unpacked; None: as much. For the plan and the progress."""
    pixels: int | None = None
    """Of the picture that is made from it, for the plan; None: its file's header says it."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Where it is on sequence timelines."""
    times: Mapping[str, int] = field(default_factory=dict)
    """Where it is on time timelines, in nanoseconds."""
    log_time: int | None = None
    """When it was logged, where it comes from another recording, in nanoseconds since the epoch; None: now."""


def refused(error: Exception) -> bytes:
    """The `read` of a value that cannot be had: raises `error`, so that it becomes an error row."""
    raise error


def entity_or(path: str, otherwise: str) -> str:
    """`path` where it can be an entity path, else `otherwise`."""
    try:
        return normalise_entity_path(path)
    except LumatileError:
        return otherwise


Reader = Callable[[SourceFiles], Iterable[LogCall]]
"""What knows a format: the files of a dataset -> its values, annotation contexts before what they color.

Where it gives a list the job knows its length, and says when it will be done; else it goes by the bytes of the files.
"""
