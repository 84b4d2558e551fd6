"""Log calls: the values of a dataset as a format reader lists them, before their content is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import LumatileError, LumatileWarning
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.source_files import SourceFiles


class DatasetWarning(LumatileWarning):
    """A part of a dataset is not logged, which is not an error."""


@dataclass(frozen=True, kw_only=True)
class LogCall:
    """One value of a dataset: where it goes, where it comes from, and how it is logged.

    It can be pickled if its fields can.
    """

    entity_path: str
    """The entity that the value is logged to."""
    kind: Kind
    """The kind of value that `log` logs."""
    uri: str
    """The URI of the file that holds the value."""
    read: Callable[[], bytes]
    """Returns the bytes that the value is made from, the content of a file for example; they are hashed. May raise."""
    log: Callable[[RecordingStream, str, bytes], None]
    """Logs the bytes that `read` returned to an entity path, with one call of the recording.

    An exception that it raises becomes an error row."""
    member: str | None = None
    """The part of the file that holds the value; None: the whole file."""
    beside: bytes = b""
    """Other bytes that the value is made from and that `log` knows already, a label for example.

    They are hashed after the bytes that `read` returns."""
    nbytes: int = 0
    """The approximate number of bytes that `read` returns, for the plan."""
    file_nbytes: int | None = None
    """The number of bytes of the file that the value takes, if `read` unpacks them; None: as many as it returns.

    For the plan and the progress."""
    pixels: int | None = None
    """The number of pixels of the resulting picture, for the plan; None: the header of the file tells."""
    sequences: Mapping[str, int] = field(default_factory=dict)
    """Sequence timeline -> the value's number on it."""
    times: Mapping[str, int] = field(default_factory=dict)
    """Time timeline -> the value's time on it, in nanoseconds since the epoch."""
    log_time: int | None = None
    """The time of logging, if it comes from another recording, in nanoseconds since the epoch; None: now."""


def refused(error: Exception) -> bytes:
    """Raise `error`: the `read` of a value that cannot be read, which so becomes an error row."""
    raise error


def entity_or(path: str, otherwise: str) -> str:
    """Return `path`, normalised, if it is a valid entity path, else `otherwise`."""
    try:
        return normalise_entity_path(path)
    except LumatileError:
        return otherwise


def listed_calls(read: Reader, files: SourceFiles) -> Iterable[LogCall]:
    """Return the calls that a reader lists, and one that becomes an error row for each directory that was unreadable.

    It is a list if the reader returns one.
    """
    calls = read(files)
    unlisted = [
        LogCall(
            entity_path=entity_or(path, files.name),
            kind="image",
            uri=files.uri(path),
            read=partial(refused, OSError(f"the directory cannot be listed: {reason}")),
            log=_nothing,
        )
        for path, reason in files.unlisted.items()
    ]
    return [*calls, *unlisted] if isinstance(calls, list) else chain(calls, unlisted)


def _nothing(*_: object) -> None:
    """Log nothing: the content of these calls cannot be read."""


Reader = Callable[[SourceFiles], Iterable[LogCall]]
"""A format reader: a function from the files of a dataset to its values, annotation contexts before what they color.

If it returns a list, the job takes its progress from the number of calls, otherwise from the bytes of the files.
"""
