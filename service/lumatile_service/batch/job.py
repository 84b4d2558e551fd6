"""A job: a dataset's values into one recording of a store."""

from __future__ import annotations

import hashlib
import operator
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Protocol

from lumatile.errors import LumatileWarning
from lumatile.settings import RecordingSettings
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.ledger import Ledger, errors_of
from lumatile_service.batch.local_engine import LocalEngine
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.batch.streams import Streams
from lumatile_service.batch.tally import Tally


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a job has done."""

    recording_id: str
    format: str
    values: int
    """Values of the dataset that were looked at."""
    logged: int
    """Of them, those that were not stored before."""
    stored_before: int
    changed: int
    """Of the logged ones, those from where something else is stored."""
    bytes_in: int
    bytes_out: int
    """Size of the segments written."""
    seconds: float
    errors: Mapping[str, int] = field(default_factory=dict)
    """Reason -> error rows of the recording."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """Reason -> the URI of one of them."""


class Watcher(Protocol):
    """Is shown how a job goes."""

    def watch(self, tally: Tally, streams: Streams, total: int | None) -> Any:
        """A context manager: around the work. `total`: values of the dataset, None: not known."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def watch(self, tally: Tally, streams: Streams, total: int | None) -> Iterator[None]:  # noqa: ARG002
        """Nothing."""
        yield


def ingest(
    source: str | PathLike[str],
    store: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    reader: str | None = None,
    recording_id: str | None = None,
    max_errors: int | None = None,
    threads: int | None = None,
    backend: str = "auto",
    watcher: Watcher | None = None,
    **settings: Any,
) -> Summary:
    """Log a dataset into a recording; what is there already is not logged again.

    `source`: a directory, or its URL. `store`: path or URL. `format`: a name in `formats.FORMATS`; None: what the files
    look like. `reader`: "module:function", a `Reader` of one's own instead.
    `recording_id`: None: made from `source`, the same each time.
    `max_errors`: stop where more values than that are bad; None: never, each becomes an error row.
    `threads`: that read and log; None: one a core. `backend`: as in `save`. `settings`: of the recording, as in `init`.
    Raises InvalidValueError for a source or format that there is not, TooManyErrorsError, SinkError, FlushError; what
    was logged until then is stored, and the same call goes on from there.
    """
    files = SourceFiles(source)
    name, read = find_reader(files, format, reader)
    recording_id = recording_id or derived_id(files)
    began = time.monotonic()
    ledger = Ledger(store, recording_id)
    tally = Tally()
    threads = threads or _cores()
    streams = Streams(
        store,
        RecordingSettings(application_id=files.name, recording_id=recording_id, max_block=None, **settings),
        backend=backend,
        count=threads,
        tally=tally,
    )
    calls = read(files)
    total = operator.length_hint(calls) or None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LumatileWarning)  # an error row says it, and the summary
        with (watcher or Silent()).watch(tally, streams, total), streams.closing():
            LocalEngine(streams, ledger, tally, max_errors).run(calls, threads)
    errors = errors_of(store, recording_id)
    reasons = Counter(reason_of(error) for _, error in errors)
    return Summary(
        recording_id=recording_id,
        format=name,
        values=tally.seen,
        logged=tally.count("new") + tally.count("changed"),
        stored_before=tally.count("stored"),
        changed=tally.count("changed"),
        bytes_in=tally.bytes_in,
        bytes_out=tally.bytes_out,
        seconds=time.monotonic() - began,
        errors=dict(reasons.most_common()),
        examples={reason_of(error): uri for uri, error in reversed(errors)},
    )


def derived_id(files: SourceFiles) -> str:
    """The recording id of a source: its name, and a few digits of its URL's hash."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", files.name)[:100]
    return f"{name}-{hashlib.blake2b(files.url.encode(), digest_size=4).hexdigest()}"


def reason_of(error: str) -> str:
    """An error row's reason without the entity path that it begins with, where it does."""
    return re.sub(r"^\w+ at .*?: ", "", error, count=1)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
