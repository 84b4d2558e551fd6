"""Ingestion: the values of a dataset are logged into one recording of a store."""

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
from lumatile.write.withdraw import withdraw
from lumatile_service.batch.engine.local_engine import run_here
from lumatile_service.batch.engine.ray_engine import run_on_ray
from lumatile_service.batch.formats import find_reader, left_out
from lumatile_service.batch.formats.contents import ignore_warnings
from lumatile_service.batch.job import Engine, Job, derived_id, namesakes
from lumatile_service.batch.job_lock import only_job
from lumatile_service.batch.ledger import Ledger
from lumatile_service.batch.log_call import DatasetWarning
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.batch.stale import Listed, find_stale
from lumatile_service.batch.tally import IngestTally


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of a job."""

    recording_id: str
    format: str
    values: int
    """The number of values in the dataset that were looked at."""
    logged: int
    """The number of them that were not stored before, and were logged."""
    stored_before: int
    """The number of them that were stored already."""
    changed: int
    """The number of logged values from places (file and part) that another value is stored of."""
    moved: int
    """The number of values that were stored at other times, for example with another number, and were logged again."""
    withdrawn: int
    """The number of frames that were taken out of the recording: the values that have moved, at their earlier times;
    values that would hide others; with `prune`, values that the source does not have any more."""
    gone: int
    """The number of stored values that the source does not have any more. They stay."""
    left_out: Mapping[str, int]
    """What the source has and the job does not read -> the number of files or links: suffixes of data, with the format
    that reads them if there is one, and links to nothing and to directories above them."""
    bytes_in: int
    """The number of bytes read."""
    bytes_out: int
    """The size of the segments written, in bytes."""
    seconds: float
    """The duration of the job."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of error rows in the recording, the most frequent first. Rows that a later run has superseded
    are not counted."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """Reason -> the URI of the file of one of them."""


class Watcher(Protocol):
    """Shows the progress of a job."""

    def watch(self, tally: IngestTally) -> Any:
        """Return a context manager that surrounds the work and shows `tally`."""
        ...


class Silent:
    """A `Watcher` that shows nothing."""

    @contextmanager
    def watch(self, tally: IngestTally) -> Iterator[None]:  # noqa: ARG002
        """Return a context manager that does nothing."""
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
    prune: bool = False,
    threads: int | None = None,
    backend: str = "auto",
    watcher: Watcher | None = None,
    **settings: Unpack[RecordingOptions],
) -> Summary:
    """Log a dataset into a recording; values that are stored already are not logged again.

    Afterwards each instant shows what it would show if all were logged anew: a value whose times have changed, because
    files were added before it for example, is logged at its new times and taken out at its earlier ones. Values that
    the source does not have any more stay, unless `prune` is true.

    After an error, values that were durable by then stay stored, and the same call continues from there.

    Args:
        source: A directory or a file, or the URL of one.
        store: The path or URL of the store.
        format: The name of a format in `formats.FORMATS`; None: the one that the files look like.
        reader: A `Reader` of your own, as "module:function", instead of `format`.
        recording_id: The recording to log into; None: an id made from `source`, the same each time.
        engine: "local": threads of this process; "ray": Ray Data. All machines of a Ray cluster must see `source` and
            `store`.
        ray_address: The Ray to use, "auto" or HOST:PORT; None: the one that this process is connected to, otherwise a
            Ray that is started for the job.
        max_errors: The job stops if more values than this are bad; None: it never does, each becomes an error row.
        prune: Take values out of the recording that the source does not have any more. Values of files and directories
            that could not be read stay, and all values if the source has none.
        threads: The number of threads that read and log, with Ray in each actor; None: the engine chooses.
        backend: The backend that makes the tiles, as in `save`.
        watcher: Shows the progress; None: nothing is shown.
        settings: The settings of the recording, as in `init`, without `queue_policy` and `max_block`.

    Returns:
        What was done, and the error rows of the recording by their reasons.

    Raises:
        InvalidValueError: The source, format, reader, engine or a setting does not exist or is not allowed.
        JobRunningError: Another job is logging the same source into the same recording.
        TooManyErrorsError: More than `max_errors` values are bad.
        SinkError: The store cannot be opened, or Ray fails.
        FlushError: Not all values became durable: the store has failed for a minute.
    """
    run = _engine(engine, ray_address)
    files = SourceFiles(source)
    name, read = find_reader(files, format, reader)
    others = [] if recording_id else namesakes(store, files)
    recording_id = recording_id or derived_id(files)
    began = time.monotonic()
    tally = IngestTally()
    tally.total_bytes = sum(files.sizes.values())
    recording = RecordingSettings(application_id=files.name, recording_id=recording_id, max_block=None, **settings)
    with warnings.catch_warnings(), only_job(store, recording_id, files.url):
        ignore_warnings()
        job = Job(
            files=files,
            read=read,
            store=store,
            settings=recording,
            backend=backend,
            max_errors=max_errors,
            threads=threads,
            tally=tally,
            ledger=Ledger(store, recording_id, files.url),
            listed=Listed(),
        )
        if job.ledger.empty and others:
            reason = f"the store has recordings of other sources with the name {files.name}: {', '.join(others)}"
            hint = "if the source was moved, name its recording (--recording), so that nothing is logged twice"
            warnings.warn(f"{reason}; {hint}", DatasetWarning, stacklevel=2)
        with (watcher or Silent()).watch(tally):
            run(job)
        stale = find_stale(
            store,
            recording_id,
            source=files.url,
            listed=None if job.ledger.empty else job.listed,
            unlisted=[files.uri(path) for path in files.unlisted],
            prune=prune and tally.seen > 0,  # an empty directory is rather one that is not mounted
        )
        if stale.withdrawn:
            withdraw(store, recording, stale.withdrawn)
    reasons = Counter(reason for _, reason in stale.errors)
    return Summary(
        recording_id=recording_id,
        format=name,
        values=tally.seen,
        logged=tally.count("new") + tally.count("changed"),
        stored_before=tally.count("stored"),
        changed=tally.count("changed"),
        moved=tally.count("moved"),
        withdrawn=len(stale.withdrawn),
        gone=stale.gone,
        left_out=left_out(files, name),
        bytes_in=tally.bytes_in,
        bytes_out=tally.bytes_out,
        seconds=time.monotonic() - began,
        errors=dict(reasons.most_common()),
        examples={reason: uri for uri, reason in reversed(stale.errors)},
    )


def _engine(name: str, ray_address: str | None) -> Engine:
    if name == "local" and ray_address is None:
        return run_here
    if name == "local":
        raise InvalidValueError(f"a Ray's address is for the engine 'ray', and is {ray_address!r}")
    if name != "ray":
        raise InvalidValueError(f"the engine must be 'local' or 'ray', not {name!r}")
    return partial(run_on_ray, address=ray_address)
