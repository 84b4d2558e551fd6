"""Log calls on Ray Data: a task lists them in batches, actors log the batches, each actor with its own pipeline."""

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
from lumatile_service.batch.log_call import LogCall, Reader
from lumatile_service.batch.tally import IngestTally

BATCH_BYTES = 16 << 20
"""A batch is full with this much to read, in bytes."""

CALL_BYTES = 16 << 10
"""A call counts as much, at least: logging it takes time, and where it is may be long."""

RETRIES = 3
"""Of a batch whose actor died: there may be a value in it that no process survives."""

THREADS = 2
"""Batches that an actor logs at once: one is flushed while the other is read."""


def run(job: Job) -> None:
    """The `Engine` in the Ray that this process is connected to.

    One actor a GPU; without any one a core. A batch is done when all of it is durable; Ray does it again where an actor
    died, and what that one stored before is known then. Raises as an `Engine`; SinkError where Ray fails.
    """
    gpus, cores = (int(ray.cluster_resources().get(name, 0)) for name in ("GPU", "CPU"))
    actors = gpus or max(1, cores)
    with _silent(logging.getLogger("ray.data")), _by_value(job.read):
        with DataContext.current(_quiet()):  # which is copied into what is made here
            reports = _reports(job, actors, cores, gpus)
        try:
            for report in reports.iter_batches(batch_size=None, batch_format="pyarrow"):
                for counts in map(json.loads, report["counts"].to_pylist()):
                    job.tally.total = counts.pop("total", None)
                    job.tally.add(counts)
                job.check_errors()
        except RayError as e:
            raise _cause(e) from e


def _reports(job: Job, actors: int, cores: int, gpus: int) -> ray.data.Dataset:
    """A row for each batch, when it is done: what was counted."""
    batches = ray.data.read_datasource(_Batches(job), num_cpus=0, override_num_blocks=1)
    return batches.map_batches(
        _Actor,
        fn_constructor_args=(
            _Told.of(job, max(1, cores // actors)),
            ray.put(Ledger(job.store, job.settings.recording_id)),
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
    """Only its errors."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _quiet() -> DataContext:
    """Without Ray Data's own progress; each row is a block, and so a task of its own."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.enable_auto_log_stats = False
    context.target_max_block_size = 1
    context.raise_original_map_exception = True
    return context


def _cause(error: RayError) -> Exception:
    """What went wrong, of what Ray wraps it in."""
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
    """What an actor is told of a job."""

    store: str
    settings: RecordingSettings
    backend: str
    cores: int
    """For it to compute on."""

    @classmethod
    def of(cls, job: Job, cores: int) -> _Told:
        return cls(store=absolute(job.store), settings=job.settings, backend=job.backend, cores=cores)


@contextlib.contextmanager
def _by_value(read: Reader) -> Iterator[None]:
    """What a reader's module has goes along with the job, where it is not ours: other machines may not have it."""
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
    """One row a batch: its `number`; `calls`, what is in it, and `contexts`, those before it, both pickled."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._files = job.files
        self._read = job.read

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:  # noqa: ARG002
        """One: a reader gives one call after the other."""
        files, read = self._files, self._read
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(lambda: _batches(read(files)), unknown)]


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
    """Logs batches; may be called by several threads at once."""

    def __init__(self, told: _Told, known: Any) -> None:
        """`known`: reference to the ledger as it was before the job."""
        ignore_warnings()
        # started again it looks at what the one that died has stored
        ledger = Ledger(told.store, told.settings.recording_id) if _restarted() else ray.get(known)
        self._tally = IngestTally()
        self._streams = JobStreams(
            told.store, told.settings, backend=told.backend, count=1, cores=told.cores, tally=self._tally
        )
        self._logger = CallLogger(self._streams, ledger, self._tally)
        self._contexts = b""
        self._lock = threading.Lock()
        self._batches: dict[int, Future[str]] = {}
        """Number of a batch -> what was counted, as JSON."""

    def __call__(self, row: pa.Table) -> pa.Table:
        """What was counted until all of the batch was durable.

        Ray may ask for a batch again that this actor has, or has begun: where it did not hear of the answer.
        """
        mine: Future[str] = Future()
        with self._lock:
            counted = self._batches.setdefault(row["number"][0].as_py(), mine)
        if counted is mine:
            try:
                mine.set_result(json.dumps({"total": row["total"][0].as_py(), **self._log(row)}))
            except BaseException as e:  # noqa: BLE001 - raised below
                mine.set_exception(e)
        return pa.table({"counts": [counted.result()]})

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
                break  # nothing is stored any more: the flush says why
        self._streams.flush()
        return self._tally.taken()


def _restarted() -> bool:
    """Whether Ray has started this actor again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's, about how it asks itself
        return bool(ray.get_runtime_context().was_current_actor_reconstructed)
