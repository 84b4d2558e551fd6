"""What an engine is given to do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

from lumatile.errors import LumatileError
from lumatile.settings import RecordingSettings
from lumatile_service.batch.log_call import Reader
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.batch.tally import IngestTally


class TooManyErrorsError(LumatileError):
    """A job stopped because of errors in its input."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A dataset's values into one recording of a store."""

    files: SourceFiles
    read: Reader
    store: str | PathLike[str]
    settings: RecordingSettings
    """Of the recording."""
    backend: str
    """What makes the tiles, as in `save`."""
    max_errors: int | None
    """How many bad values are borne; None: any number."""
    threads: int | None
    """That read and log; None: as the engine thinks best."""
    tally: IngestTally
    """Counts what is done."""

    def check_errors(self) -> None:
        """Raises TooManyErrorsError."""
        errors = self.tally.errors
        if self.max_errors is not None and errors > self.max_errors:
            raise TooManyErrorsError(f"stopped after {errors} bad values, more than {self.max_errors}")


Engine = Callable[[Job], None]
"""Logs what is not stored; returns when all is durable.

Raises TooManyErrorsError, SinkError, FlushError, and what reading the list of calls raises; what was durable until then
is in the recording.
"""


def derived_id(files: SourceFiles) -> str:
    """The recording id of a source: its name, and a few digits of its URL's hash."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", files.name)[:100]
    return f"{name}-{hashlib.blake2b(files.url.encode(), digest_size=4).hexdigest()}"


def reason_of(error: str) -> str:
    """An error row's reason without the entity path that it begins with, where it does."""
    return re.sub(r"^\w+ at .*?: ", "", error, count=1)
