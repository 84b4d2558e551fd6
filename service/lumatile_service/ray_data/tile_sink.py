"""A store as the last stage of a Ray Data pipeline."""

from __future__ import annotations

import hashlib
import os
import secrets
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Unpack

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data.block import BlockAccessor
from ray.data.datasource import Datasink

from lumatile.errors import InvalidTypeError, SinkError, shown, warn
from lumatile.reading import open_store
from lumatile.settings import RecordingOptions, RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile.urls import absolute
from lumatile_service.ray_data.write_task import LogRow, Row, TaskResult, write_rows

BYTES_PER_WRITE = 32 << 20
"""Of the rows of a write task, at least: an image's tiles are many times its bytes, so segments are not small."""

PATIENCE = 60.0
"""Seconds."""

TRIED = "lumatile_tried"
"""In a task's context: this process has begun with it before."""


@dataclass(frozen=True, kw_only=True)
class WriteSummary:
    """What a write has done."""

    recording_id: str
    rows: int
    values: int
    """In the recording now: each once, error rows too."""
    stored_before: int
    """Of them, those that tasks found when they were tried again."""
    changed: int
    """Values that tasks tried again had logged otherwise the time before: both are in the recording."""
    nbytes: int
    """Size of the segments written, in bytes."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Reason -> error rows."""
    other_errors: int = 0
    """Wrong calls that leave no row, of `set_time_sequence` for example."""


class TileSink(Datasink[TaskResult]):  # type: ignore[misc]
    """Logs the rows of a dataset into a recording: `dataset.write_datasink(TileSink(...))`.

    A write task logs its rows in their order, through a pipeline of its own, and succeeds when they are durable. It
    computes in as many threads as it has CPUs: one, or as `ray_remote_args={"num_cpus": 4}` says. With
    `dataset.write_datasink(sink, ray_remote_args={"num_gpus": 1})` each has a GPU too, which makes the tiles.
    `concurrency` bounds how many there are at a time.

    **Each value is stored once**, also where Ray tries a task again because its process or machine died: the key of a
    value is made from the recording's id, a random number of this write, the task's number, and the value's number in
    the task; an attempt that finds a key in the store does not store it again. This takes that an attempt logs the
    same: `log` is a function of the row, and the rows are the same in the same order. They are: a task's rows are
    blocks in Ray's object store, and where Ray has lost those too it makes them again from their sources, by the same
    functions. If those give other rows, what is at another entity path or time than before is stored beside it and
    counted as `changed`, so nothing is lost; pixels are not compared: of those the first attempt's stay.
    A process that dies each time is tried for ever: `ray_remote_args={"max_retries": 3}` bounds that. Two writes are
    two writes: each stores all values.

    **Bad values** become error rows, as everywhere: of a bad call at its entity path; of what `log` itself raises at
    the root, kind "ext". They are counted in `summary`, and the driver warns. In strict mode (`strict=True`) the first
    one ends the job.

    Class colors: log the annotation contexts once, on the driver, before or after the write.
    """

    def __init__(
        self,
        store: str | PathLike[str],
        *,
        log: LogRow,
        application_id: str,
        recording_id: str | None = None,
        backend: str = "auto",
        patience: float = PATIENCE,
        min_bytes_per_write: int | None = BYTES_PER_WRITE,
        **settings: Unpack[RecordingOptions],
    ) -> None:
        """A sink into the store at `store`, a path or URL that all machines of the cluster see.

        `log(recording, row)`: logs a row, a dict, by any calls of a RecordingStream; times begin anew with each row.
        `recording_id`: None: $LUMATILE_RECORDING_ID, else a new one, see `recording_id`.
        `backend`: as in `save`. `settings`: as in `lumatile.init`, without queue_policy and max_block.
        `patience`: a store that fails (a disk is full) is tried again for so many seconds; then the job fails.
        `min_bytes_per_write`: rows are put together to tasks of so many bytes; None: each block is a task, in one
        with the stages before it, which are then run again with it, and must give the same rows in the same order.

        The write raises, through Ray, a FlushError where not everything could be stored: the store cannot be written,
        or a backend is asked for that cannot run. Ray does not try that again; what was stored until then stays.
        Raises InvalidValueError for a setting or store that is not allowed, InvalidTypeError for a `log` that is none.
        """
        if not callable(log):
            raise InvalidTypeError(f"log must be a function of (recording, row), not {shown(log)}")
        open_storage(store)  # it is a path or a bucket
        self._store = absolute(store)
        self._log = log
        self._settings = RecordingSettings(
            application_id=application_id,
            recording_id=recording_id or os.environ.get("LUMATILE_RECORDING_ID") or str(uuid.uuid4()),
            queue_policy="block",
            max_block=None,
            **settings,
        )
        self._backend = backend
        self._patience = patience
        self._min_bytes_per_write = min_bytes_per_write
        self._write_id = ""
        """Of the write under way; a second one with the same would find its values stored."""
        self.summary: WriteSummary | None = None
        """Of the last write that succeeded."""

    @property
    def recording_id(self) -> str:
        """Of the recording that it writes."""
        return self._settings.recording_id

    @property
    def min_bytes_per_write(self) -> int | None:
        """Ray asks for it."""
        return self._min_bytes_per_write

    def on_write_start(self, schema: pa.Schema | None = None) -> None:  # noqa: ARG002
        """Ray calls it on the driver, before the tasks get their copies of this."""
        self.summary = None
        self._write_id = secrets.token_hex(16)

    def write(self, blocks: Iterable[Any], ctx: Any) -> TaskResult:
        """One write task; Ray calls it where the task runs."""
        again = ctx.kwargs.setdefault(TRIED, False) or _tried_before()
        ctx.kwargs[TRIED] = True
        return write_rows(
            _rows(blocks),
            self._log,
            self._store,
            self._settings,
            backend=self._backend,
            producer=self._producer(ctx.task_idx),
            again=again,
            patience=self._patience,
            threads=max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))),
        )

    def on_write_complete(self, write_result: Any) -> None:
        """Ray calls it on the driver, when all tasks are done. Warns where there are error rows."""
        self._write_id = ""
        tasks: list[TaskResult] = [task for task in write_result.write_returns if task is not None]
        errors = sum(task.errors for task in tasks)
        reasons = self._reasons({p for task in tasks for p in task.producers}) if errors else Counter[str]()
        changed = sum(task.changed for task in tasks)
        stored_before = sum(task.stored_before for task in tasks)
        self.summary = WriteSummary(
            recording_id=self.recording_id,
            rows=sum(task.rows for task in tasks),
            values=sum(task.values for task in tasks) + stored_before,
            stored_before=stored_before,
            changed=changed,
            nbytes=sum(task.nbytes for task in tasks),
            errors=dict(reasons.most_common()),
            other_errors=max(0, errors - reasons.total()),
        )
        if errors:
            example = next(iter(reasons), "of set_time_sequence, set_time_seconds or set_time_nanos")
            warn(f"{errors} of {self.summary.values} values are bad, see `summary`; most often: {example}")
        if changed:
            warn(f"{changed} values of tasks that were tried again are there in two versions: their rows had changed")

    def on_write_failed(self, error: Exception) -> None:  # noqa: ARG002
        """Ray calls it on the driver."""
        self._write_id = ""

    def _producer(self, task: int) -> bytes:
        if not self._write_id:
            raise SinkError("Ray must call on_write_start before it copies the sink to write tasks: another Ray may")
        text = f"{self.recording_id}\0{self._write_id}\0{task}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def _reasons(self, producers: set[bytes]) -> Counter[str]:
        """How often each reason is in the error rows of producers."""
        table = open_store(self._store).recording(self.recording_id).frames_table()
        ours = pc.is_in(table["producer"], pa.array(sorted(producers), table["producer"].type))
        table = table.filter(pc.and_(ours, pc.is_valid(table["error"])))
        return Counter(
            error.partition(": ")[2] if error.startswith(f"{kind} at ") else error
            for kind, error in zip(table["kind"].to_pylist(), table["error"].to_pylist(), strict=True)
        )


def _rows(blocks: Iterable[Any]) -> Iterator[Row]:
    for block in blocks:
        yield from BlockAccessor.for_block(block).iter_rows(public_row_format=True)


def _tried_before() -> bool:
    """Whether Ray may have begun before with the task that runs here. Ray 2.60 has no documented name for it."""
    core_worker = getattr(ray.get_runtime_context().worker, "core_worker", None)
    attempt = getattr(core_worker, "get_current_task_attempt_number", None)
    return attempt is None or attempt() > 0
