"""Log calls on Ray Data: one task lists them in batches, and actors log the batches, each with its own pipeline."""

from __future__ import annotations

import contextlib
import json
import logging
import operator
import pickle
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray import cloudpickle
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayError, RayTaskError

from lumatile.errors import SinkError
from lumatile.settings import RecordingSettings
from lumatile.urls import absolute
from lumatile_service.batch.engine.call_logger import CallLogger
from lumatile_service.batch.engine.streams import JobStreams
from lumatile_service.batch.formats.contents import ignore_warnings
from lumatile_service.batch.job import Job
from lumatile_service.batch.ledger import Ledger
from lumatile_service.batch.log_call import LogCall, Reader, listed_calls
from lumatile_service.batch.stale import Listed
from lumatile_service.batch.tally import IngestTally

BATCH_BYTES = 16 << 20
"""The size at which a batch is full, in bytes to read."""

CALL_BYTES = 16 << 10
"""The least size that a call is counted as, in bytes: logging it takes time, and its description may be long."""

RETRIES = 3
"""How often a batch whose actor died is tried again: it may hold a value that kills every process."""

THREADS = 2
"""The number of batches that an actor logs at a time: one is flushed while the next one is read."""


def run(job: Job) -> None:
    """Run a job, as an `Engine`, in the Ray that this process is connected to.

    There is one actor for each GPU, or without GPUs for each core. A batch is done when all its values are durable. If
    an actor dies, Ray runs its batches again, and the new actor knows what was stored before. Raises as an `Engine`
    does, and SinkError if Ray fails.
    """
    gpus, cores = (int(ray.cluster_resources().get(name, 0)) for name in ("GPU", "CPU"))
    actors = gpus or max(1, cores)
    with _silent(logging.getLogger("ray.data")), _by_value(job.read):
        with DataContext.current(_quiet()):  # it is copied into the dataset
            reports = _reports(job, actors, cores, gpus)
        try:
            for report in reports.iter_batches(batch_size=None, batch_format="pyarrow"):
                for counts in map(json.loads, report["counts"].to_pylist()):
                    job.tally.total = counts.pop("total", None)
                    job.tally.add(counts)
                for listed in report["listed"].to_pylist():
                    job.listed.update(pickle.loads(listed))  # noqa: S301 - from our own actor
                job.check_errors()
        except RayError as e:
            raise _cause(e) from e


def _reports(job: Job, actors: int, cores: int, gpus: int) -> ray.data.Dataset:
    """Return a dataset with a row for each batch that is done: its counts."""
    batches = ray.data.read_datasource(_Batches(job), num_cpus=0, override_num_blocks=1)
    return batches.map_batches(
        _Actor,
        fn_constructor_args=(
            _Told.of(job, max(1, cores // actors)),
            ray.put(job.ledger),
        ),
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            min_size=1,
            max_size=actors,
            initial_size=actors,
            enable_true_multi_threading=True,
            max_concurrent_calls_per_actor=job.threads or THREADS,
        ),
        num_cpus=0 if gpus else 1,
        num_gpus=1 if gpus else 0,
        max_task_retries=RETRIES,
    )


@contextlib.contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Let a logger log only errors."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _quiet() -> DataContext:
    """Return a context without Ray Data's own progress, in which each row is a block, and so a task of its own."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    context.target_max_block_size = 1
    context.raise_original_map_exception = True
    return context


def _cause(error: RayError) -> Exception:
    """Return the exception that Ray has wrapped in `error`, or a SinkError without one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RayTaskError):
            found = found.cause
        elif isinstance(found, Exception) and not isinstance(found, RayError):
            return found
        else:
            found = found.__cause__
    return SinkError(f"the job on Ray failed: {error}")


@dataclass(frozen=True, kw_only=True)
class _Told:
    """The part of a job that an actor needs."""

    source: str
    """The URL of the dataset."""
    store: str
    settings: RecordingSettings
    backend: str
    cores: int
    """The number of cores that it computes on."""

    @classmethod
    def of(cls, job: Job, cores: int) -> _Told:
        return cls(
            source=job.files.url, store=absolute(job.store), settings=job.settings, backend=job.backend, cores=cores
        )


@contextlib.contextmanager
def _by_value(read: Reader) -> Iterator[None]:
    """Send the module of a reader along with the job if it is not part of Lumatile: other machines may not have it."""
    while isinstance(read, partial):
        read = read.func
    module = sys.modules.get(getattr(read, "__module__", None) or "")
    known = cloudpickle.list_registry_pickle_by_value()
    if module is None or module.__name__.startswith("lumatile_service.") or module.__name__ in known:
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


class _Batches(Datasource):  # type: ignore[misc]
    """A source with one row for each batch: `number`, `calls` and the `contexts` before it, pickled, and `total`."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._files = job.files
        self._read = job.read

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        """Return one task: a reader lists one call after another."""
        files, read = self._files, self._read
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _batches(listed_calls(read, files)), unknown)]


def _batches(calls: Iterable[LogCall]) -> Iterator[pa.Table]:
    total = operator.length_hint(calls) or None
    contexts: dict[str, LogCall] = {}
    batch: list[LogCall] = []
    known: list[LogCall] = []
    nbytes = 0
    number = 0
    for call in calls:
        batch.append(call)
        nbytes += max(CALL_BYTES, call.nbytes)
        if call.kind == "annotation_context":
            contexts[call.entity_path] = call
        if nbytes >= BATCH_BYTES:
            yield _row(number, batch, known, total)
            batch, known, nbytes, number = [], list(contexts.values()), 0, number + 1
    if batch:
        yield _row(number, batch, known, total)


def _row(number: int, batch: list[LogCall], contexts: list[LogCall], total: int | None) -> pa.Table:
    return pa.table(
        {
            "number": pa.array([number], pa.int64()),
            "calls": pa.array([cloudpickle.dumps(batch)], pa.large_binary()),
            "contexts": pa.array([cloudpickle.dumps(contexts)], pa.large_binary()),
            "total": pa.array([total], pa.int64()),
        }
    )


class _Actor:
    """Logs batches; may be called by several threads at a time."""

    def __init__(self, told: _Told, known: Any) -> None:
        """Open the streams. `known`: a reference to the ledger as it was before the job."""
        ignore_warnings()
        # an actor that was started again reads what the one that died has stored
        ledger = Ledger(told.store, told.settings.recording_id, told.source) if _restarted() else ray.get(known)
        self._tally = IngestTally()
        self._streams = JobStreams(
            told.store, told.settings, backend=told.backend, count=1, cores=told.cores, tally=self._tally
        )
        self._listed = Listed()
        self._logger = CallLogger(self._streams, ledger, self._tally, self._listed)
        self._contexts = b""
        self._lock = threading.Lock()
        self._batches: dict[int, Future[dict[str, Any]]] = {}
        """Number of a batch -> its counts as JSON, and the places that were listed, pickled."""

    def __call__(self, row: pa.Table) -> pa.Table:
        """Log a batch, and return what was counted until all of it was durable.

        Ray may ask again for a batch that this actor has logged or begun, if it did not receive the answer.
        """
        mine: Future[dict[str, Any]] = Future()
        with self._lock:
            counted = self._batches.setdefault(row["number"][0].as_py(), mine)
        if counted is mine:
            try:
                counts = json.dumps({"total": row["total"][0].as_py(), **self._log(row)})
                mine.set_result({"counts": counts, "listed": pickle.dumps(self._listed.taken())})
            except BaseException as e:  # noqa: BLE001 - raised below
                mine.set_exception(e)
        return pa.table({name: [value] for name, value in counted.result().items()})

    def _log(self, row: pa.Table) -> dict[str, int]:
        recording = self._streams.of(0)
        contexts = row["contexts"][0].as_py()
        if contexts != self._contexts:
            for call in pickle.loads(contexts):  # noqa: S301 - from our own task
                self._logger.color_by(call)
            self._contexts = contexts
        for call in pickle.loads(row["calls"][0].as_py()):  # noqa: S301
            self._logger.log(call, recording)
            if recording.lost:
                break  # nothing is stored any more, and the flush says why
        self._streams.flush()
        return self._tally.taken()


def _restarted() -> bool:
    """Return whether Ray has started this actor again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of Ray about its own call
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)
