"""Jobs: what an engine is given to do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

from lumatile.errors import LumatileError
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile_service.batch.ledger import Ledger
from lumatile_service.batch.log_call import Reader
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.batch.stale import Listed
from lumatile_service.batch.tally import IngestTally


class TooManyErrorsError(LumatileError):
    """A job stopped because its input had more errors than were allowed."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of logging a dataset into one recording of a store."""

    files: SourceFiles
    read: Reader
    store: str | PathLike[str]
    settings: RecordingSettings
    """The settings of the recording."""
    backend: str
    """The backend that makes the tiles, as in `save`."""
    max_errors: int | None
    """The number of bad values that are tolerated; None: any number."""
    threads: int | None
    """The number of threads that read and log; None: the engine chooses."""
    tally: IngestTally
    """The counts of what has been done; the engine updates them."""
    ledger: Ledger
    """The values that were stored before."""
    listed: Listed
    """The places that the reader has listed; the engine adds to them, unless nothing was stored before."""

    def check_errors(self) -> None:
        """Raise TooManyErrorsError if more than `max_errors` values have turned out bad."""
        errors = self.tally.errors
        if self.max_errors is not None and errors > self.max_errors:
            raise TooManyErrorsError(f"stopped after {errors} bad values, more than {self.max_errors}")


Engine = Callable[[Job], None]
"""A function that logs the values that are not stored yet, and returns when all of them are durable.

Raises TooManyErrorsError, SinkError, FlushError, and whatever the reader raises while it lists the log calls; values
that were durable by then stay in the recording.
"""


def derived_id(files: SourceFiles) -> str:
    """Return the recording id of a source: its name and eight hexadecimal digits of its URL's hash."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", files.name)[:100]
    return f"{name}-{hashlib.blake2b(files.url.encode(), digest_size=4).hexdigest()}"


def namesakes(store: str | PathLike[str], files: SourceFiles) -> list[str]:
    """Return the ids in a store that were derived from sources of the same name at other URLs."""
    derived = derived_id(files)
    try:
        found = [str(storage).rstrip("/").rpartition("/")[2] for storage in open_storage(store).recordings()]
    except OSError:
        return []  # there is no store yet
    pattern = re.escape(derived[: -len("00000000")]) + "[0-9a-f]{8}"
    return [each for each in found if each != derived and re.fullmatch(pattern, each)]
