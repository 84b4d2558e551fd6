"""A dataset's values into one recording of a store."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Any, Protocol, Unpack

from lumatile.errors import InvalidValueError
from lumatile.settings import RecordingOptions, RecordingSettings
from lumatile_service.batch.engine.local_engine import run_here
from lumatile_service.batch.engine.ray_engine import run_on_ray
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.formats.contents import ignore_warnings
from lumatile_service.batch.job import Engine, Job, derived_id, reason_of
from lumatile_service.batch.ledger import errors_of
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.batch.tally import IngestTally


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

    def watch(self, tally: IngestTally) -> Any:
        """A context manager: around the work."""
        ...


class Silent:
    """Shows nothing."""

    @contextmanager
    def watch(self, tally: IngestTally) -> Iterator[None]:  # noqa: ARG002
        """Nothing."""
        yield


def ingest(
    source: str | PathLike[str],
    store: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    reader: str | None = None,
    recording_id: str | None = None,
    engine: str = "local",
    ray_address: str | None = None,
    max_errors: int | None = None,
    threads: int | None = None,
    backend: str = "auto",
    watcher: Watcher | None = None,
    **settings: Unpack[RecordingOptions],
) -> Summary:
    """Log a dataset into a recording; what is there already is not logged again.

    `source`: a directory, or its URL. `store`: path or URL. `format`: a name in `formats.FORMATS`; None: what the files
    look like. `reader`: "module:function", a `Reader` of one's own instead.
    `recording_id`: None: made from `source`, the same each time.
    `engine`: "local": threads of this process; "ray": Ray Data, at `ray_address`, "auto" or HOST:PORT, None: the Ray
    that this process is connected to, else one of its own. All of its machines must see `source` and `store`.
    `max_errors`: stop where more values than that are bad; None: never, each becomes an error row.
    `threads`: that read and log, with Ray in each actor; None: as the engine thinks best.
    `backend`: as in `save`. `settings`: of the recording, as in `init`.
    Raises InvalidValueError for a source, format or engine that there is not, TooManyErrorsError, SinkError,
    FlushError; what was durable until then is stored, and the same call goes on from there.
    """
    run = _engine(engine, ray_address)
    files = SourceFiles(source)
    name, read = find_reader(files, format, reader)
    recording_id = recording_id or derived_id(files)
    began = time.monotonic()
    tally = IngestTally()
    tally.total_bytes = sum(files.sizes.values())
    job = Job(
        files=files,
        read=read,
        store=store,
        settings=RecordingSettings(application_id=files.name, recording_id=recording_id, max_block=None, **settings),
        backend=backend,
        max_errors=max_errors,
        threads=threads,
        tally=tally,
    )
    with warnings.catch_warnings():
        ignore_warnings()
        with (watcher or Silent()).watch(tally):
            run(job)
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


def _engine(name: str, ray_address: str | None) -> Engine:
    if name == "local" and ray_address is None:
        return run_here
    if name == "local":
        raise InvalidValueError(f"a Ray's address is for the engine 'ray', and is {ray_address!r}")
    if name != "ray":
        raise InvalidValueError(f"the engine must be 'local' or 'ray', not {name!r}")
    return partial(run_on_ray, address=ray_address)
