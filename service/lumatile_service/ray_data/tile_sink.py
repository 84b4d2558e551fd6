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
"""The least size of the rows of a write task, in bytes.

An image's tiles are many times as large, so that segments are not small."""

PATIENCE = 60.0
"""How long a store may fail before the job fails, in seconds."""

TRIED = "lumatile_tried"
"""A key in the context of a task; True: this process has started the task before."""


@dataclass(frozen=True, kw_only=True)
class WriteSummary:
    """The result of a write."""

    recording_id: str
    rows: int
    """The number of rows of the dataset."""
    values: int
    """The number of their values in the recording, each once, error rows included."""
    stored_before: int
    """The number of them that an earlier attempt of a task had stored."""
    changed: int
    """The number of values that an earlier attempt of a task had logged to another place: both are in the recording."""
    nbytes: int
    """The size of the segments written, in bytes."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of error rows, the most frequent first."""
    other_errors: int = 0
    """The number of wrong calls that leave no row, of `set_time_sequence` for example."""


class TileSink(Datasink[TaskResult]):  # type: ignore[misc]
    """Logs the rows of a dataset into a recording: `dataset.write_datasink(TileSink(...))`.

    A write task logs its rows in order, through a pipeline of its own, and succeeds when they are durable. It computes
    in as many threads as it has CPUs: one, or the number in `ray_remote_args={"num_cpus": 4}`. With
    `dataset.write_datasink(sink, ray_remote_args={"num_gpus": 1})` each task also has a GPU, which makes the tiles.
    `concurrency` bounds the number of tasks at a time.

    **Each value is stored once**, even if Ray tries a task again because its process or machine died. The key of a
    value is made from the recording's id, a random number of this write, the task's number, and the value's number in
    the task; an attempt that finds a key in the store does not store it again. This requires that each attempt logs
    the same values: `log` must be a function of the row, and the rows must be the same in the same order. They are:
    the rows of a task are blocks in Ray's object store, and if Ray has lost those too, it makes them again from their
    sources, by the same functions. If those return other rows, a value at another entity path or time than before is
    stored in addition and counted as `changed`, so that nothing is lost; pixels are not compared: those of the first
    attempt stay. A task whose process dies each time is tried again for ever, unless
    `ray_remote_args={"max_retries": 3}` bounds that. Two writes are independent: each of them stores all values.

    **Bad values** become error rows: for a bad call at its entity path, for an exception of `log` itself at the root,
    with the kind "ext". They are counted in `summary`, and the driver warns. In strict mode (`strict=True`) the first
    one ends the job.

    Class colors: log the annotation contexts once, on the driver, before or after the write.

    Attributes:
        summary: The result of the last write that succeeded, a `WriteSummary`; None: there is none.
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
        """Set up a sink into a recording.

        The write itself raises, through Ray, a FlushError if not everything could be stored: the store cannot be
        written, or the backend cannot run. Ray does not try that again; values stored by then stay.

        Args:
            store: The path or URL of the store; all machines of the cluster must see it.
            log: Called as `log(recording, row)` for each row, a dict. It logs the row by any calls of the
                RecordingStream; the times of a row do not carry over to the next one.
            application_id: The application id of the recording.
            recording_id: The recording; None: $LUMATILE_RECORDING_ID, else a new one, see the property `recording_id`.
            backend: The backend that makes the tiles, as in `save`.
            patience: How long a store that fails, on a full disk for example, is tried again before the job fails, in
                seconds.
            min_bytes_per_write: Rows are combined into tasks of at least this many bytes; None: each block is a task
                together with the stages before it, which are run again with it and must return the same rows in the
                same order.
            settings: The settings of the recording, as in `lumatile.init`, without `queue_policy` and `max_block`.

        Raises:
            InvalidValueError: A setting or the store is not allowed.
            InvalidTypeError: `log` is not a function.
        """
        if not callable(log):
            raise InvalidTypeError(f"log must be a function of (recording, row), not {shown(log)}")
        open_storage(store)  # raises for what is not a path or the URL of a bucket
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
        """A random number of the current write: a second write with the same one would take its values for stored."""
        self.summary: WriteSummary | None = None
        """The result of the last write that succeeded."""

    @property
    def recording_id(self) -> str:
        """The id of the recording that is written."""
        return self._settings.recording_id

    @property
    def min_bytes_per_write(self) -> int | None:
        """The least size of the rows of a write task, in bytes, as Ray asks for it."""
        return self._min_bytes_per_write

    def on_write_start(self, schema: pa.Schema | None = None) -> None:  # noqa: ARG002
        """Begin a write. Ray calls it on the driver, before the tasks get their copies of the sink."""
        self.summary = None
        self._write_id = secrets.token_hex(16)

    def write(self, blocks: Iterable[Any], ctx: Any) -> TaskResult:
        """Log the rows of one write task. Ray calls it where the task runs."""
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
        """Make the summary, and warn if there are error rows. Ray calls it on the driver, when all tasks are done."""
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
            warn(f"{changed} values of tasks that were tried again are stored in two versions: their rows had changed")

    def on_write_failed(self, error: Exception) -> None:  # noqa: ARG002
        """End a write that failed. Ray calls it on the driver."""
        self._write_id = ""

    def _producer(self, task: int) -> bytes:
        if not self._write_id:
            raise SinkError("Ray must call on_write_start before it copies the sink to write tasks: another Ray may")
        text = f"{self.recording_id}\0{self._write_id}\0{task}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def _reasons(self, producers: set[bytes]) -> Counter[str]:
        """Count the reasons in the error rows of producers."""
        table = open_store(self._store).recording(self.recording_id).frames_table()
        ours = pc.is_in(table["producer"], pa.array(sorted(producers), table["producer"].type))
        return Counter(table["error"].filter(pc.and_(ours, pc.is_valid(table["error"]))).to_pylist())


def _rows(blocks: Iterable[Any]) -> Iterator[Row]:
    for block in blocks:
        yield from BlockAccessor.for_block(block).iter_rows(public_row_format=True)


def _tried_before() -> bool:
    """Return whether Ray may have started this task before. Ray 2.60 has no documented name for it."""
    core_worker = getattr(ray.get_runtime_context().worker, "core_worker", None)
    attempt = getattr(core_worker, "get_current_task_attempt_number", None)
    return attempt is None or attempt() > 0
