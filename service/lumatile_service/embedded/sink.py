"""The embedded sink: the pipeline and the segment writer in the process that logs.

Three threads, each ahead of the next, joined by queues bounded in bytes: decode, convert, write. A value is kept
until the segment that holds it is durable, so that whatever fails on disk can be written again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lumatile.errors import FlushError, SinkError, warn
from lumatile.format.tile_rows import TileRows
from lumatile.settings import RecordingSettings
from lumatile.sink.gaps import Gaps
from lumatile.sink.queue import ByteQueue, QueueClosedError
from lumatile.sink.sinks import Durable
from lumatile.values import LoggedValue
from lumatile.write.writer import SegmentWriter
from lumatile_kernels import select_backend
from lumatile_service.embedded.contexts import KnownContexts
from lumatile_service.embedded.pipeline import DecodedValue, Pipeline
from lumatile_service.metrics.traffic import ErrorReason

log = logging.getLogger(__name__)

AHEAD_BYTES = 64 << 20
"""How far decoding may run ahead of converting, and converting of writing, in bytes."""

HELD_BYTES = 128 << 20
"""Values of the open segment that are kept, in bytes: with more it closes, however little their tiles take."""

DECODE_BATCH = 16
"""Image files decoded together, where so many wait."""

ATTEMPTS = 3
"""Failed attempts to write after which a flush says so instead of waiting on; the writer goes on trying."""


def open_embedded(
    url: str,
    settings: RecordingSettings,
    *,
    backend: str = "auto",
    contexts: KnownContexts | None = None,
    threads: int | None = None,
    segment_bytes: int | None = None,
    segment_seconds: float | None = None,
    on_durable: Callable[[Sequence[LoggedValue], int], None] = lambda *_: None,
    on_error: Callable[[ErrorReason], None] = lambda _: None,
    admit: Callable[[LoggedValue], LoggedValue | None] = lambda value: value,
) -> EmbeddedSink:
    """The sink that writes into the store at `url`: a path, a file:// URL or a bucket's URL.

    `threads`: that compute, None: one a core. `contexts`: as Pipeline takes them. `segment_bytes`,
    `segment_seconds`: as SegmentWriter takes them. `on_durable`, `on_error`, `admit`: as EmbeddedSink takes them.
    Raises SinkError where the store cannot be written, BackendUnavailableError for a backend that cannot run here.
    """
    chosen = select_backend(backend, threads=threads)
    pipeline = Pipeline(settings, backend=chosen, contexts=contexts, threads=threads)  # first: a writer has threads
    writer = SegmentWriter(url, settings, segment_bytes=segment_bytes, segment_seconds=segment_seconds)
    return EmbeddedSink(writer, pipeline, settings, on_durable=on_durable, on_error=on_error, admit=admit)


@dataclass(frozen=True, kw_only=True, eq=False)
class _FrameStart:
    number: int
    value: LoggedValue
    row: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Started:
    frame: _FrameStart
    tiles: Iterator[TileRows]
    nbytes: int


class _FrameEnd:
    """The frame's tiles have all been handed over."""


class _Wake:
    """Somebody waits: look whether a commit is asked for."""


class EmbeddedSink:
    """A `Sink` into a store that this process writes."""

    def __init__(
        self,
        writer: SegmentWriter,
        pipeline: Pipeline,
        settings: RecordingSettings,
        *,
        on_durable: Callable[[Sequence[LoggedValue], int], None] = lambda *_: None,
        on_error: Callable[[ErrorReason], None] = lambda _: None,
        admit: Callable[[LoggedValue], LoggedValue | None] = lambda value: value,
    ) -> None:
        """Start the threads, which tell of what happens.

        `admit`: what is to be stored of a value that is put; None: nothing, it is stored already.
        `on_durable`: values that are, all of a segment, and the size of its files in bytes; in the writing thread.
        `on_error`: what went wrong, from any thread.
        """
        self._on_durable = on_durable
        self._on_error = on_error
        self._admit = admit
        self._writer = writer
        self._pipeline = pipeline
        self._pipeline_lock = threading.Lock()
        """Held for each step of the pipeline: the writing thread uses it too when it writes again."""
        self._queue: ByteQueue[LoggedValue] = ByteQueue(settings.queue_bytes, settings.queue_policy, settings.max_block)
        self._decoded: ByteQueue[tuple[int, DecodedValue]] = ByteQueue(AHEAD_BYTES)
        self._tiles: ByteQueue[_FrameStart | TileRows | _FrameEnd | _Wake] = ByteQueue(AHEAD_BYTES)
        self._gaps = Gaps()
        self._gaps_open = False
        """Gaps have been taken, to be committed."""
        self._lock = threading.RLock()
        """Guards the fields below. Not `with _changed`: Ctrl-C between the steps of that leaves it locked."""
        self._changed = threading.Condition(self._lock)
        self._wanted = 0
        """Number of the last value that a flush waits for."""
        self._durable = 0
        """Number of the last value that is durable."""
        self._lost = 0
        """Values dropped since a flush said so."""
        self._pending = 0
        """Values taken that are neither durable nor dropped."""
        self._failures = 0
        """Failed attempts to write, since the beginning."""
        self._failure = ""
        """Why the last one failed."""
        self._dead: BaseException | None = None
        self._closing = False
        self._warned = False
        self._uncommitted: list[LoggedValue] = []
        """Values in the open segment, of the writing thread."""
        self._held = 0
        """Their size in bytes."""
        self._written = 0
        """Number of the last value in the open segment, of the writing thread."""
        self._threads = [
            threading.Thread(target=self._run, args=(work, after), name=f"lumatile-{name}", daemon=True)
            for name, work, after in (
                ("decode", self._decode, self._decoded.close),
                ("convert", self._convert, self._tiles.close),
                ("write", self._write, self._writer.close),
            )
        ]
        for thread in self._threads:
            thread.start()

    # for the thread that logs

    def put(self, value: LoggedValue) -> None:
        """Take a value; see `Sink.put`."""
        admitted = self._admit(value)
        if admitted is None:
            if value.kind == "annotation_context":
                self.remember(value)
            return
        value = admitted
        with self._lock:
            self._pending += 1
        try:
            dropped = self._queue.put(value, value.nbytes)
        except QueueClosedError:
            with self._lock:
                self._pending -= 1
            raise self._gone() from None
        if dropped:
            self._drop(dropped)

    def remember(self, context: LoggedValue) -> None:
        """Color what comes by an annotation context that is stored already."""
        with self._pipeline_lock:
            self._pipeline.remember(context)

    @property
    def dead(self) -> BaseException | None:
        """What ended it; None: it lives."""
        return self._dead

    @property
    def failures(self) -> tuple[int, str]:
        """Failed attempts to write since the beginning, and why the last one failed."""
        with self._lock:
            return self._failures, self._failure

    @property
    def queued_bytes(self) -> int:
        """Bytes of the values and tiles that wait in its queues."""
        return self._queue.nbytes + self._decoded.nbytes + self._tiles.nbytes

    def commit_soon(self) -> int:
        """Let the open segment not wait for more than was put before; returns that number."""
        number = self._queue.accepted
        with self._lock:
            new, self._wanted = number > self._wanted, max(self._wanted, number)
        if new or self._gaps:
            self._wake()
        return number

    def _wake(self) -> None:
        with contextlib.suppress(QueueClosedError):
            self._tiles.put(_Wake(), 0)

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until everything put before is durable; see `Sink.flush`.

        Raises FlushError also for values that were dropped since the last flush, and when writing has failed three
        times in the meantime; what is not durable yet is kept and tried again.
        """
        with self._lock:
            number, failures = self.commit_soon(), self._failures
            self._changed.wait_for(
                lambda: (
                    (self._durable >= number and not self._gaps_left)
                    or self._dead is not None
                    or self._failures >= failures + ATTEMPTS
                ),
                timeout,
            )
            lost, self._lost = self._lost, 0
            if self._durable < number or self._gaps_left:
                reason = self._failure if self._failures > failures else "timed out"
                raise FlushError(self._pending + lost, str(self._dead or reason))
        if lost:
            raise FlushError(lost, "dropped since the last flush, for want of room in the queue")
        return "store"

    def close(self, timeout: float | None = None) -> None:
        """Flush and stop; see `Sink.close`."""
        try:
            if self._dead is None and not self._closing:
                self.flush(timeout)
        finally:
            with self._lock:
                self._closing = True
                self._changed.notify_all()
            self._queue.close()
            for thread in self._threads:
                thread.join(timeout)

    @property
    def _gaps_left(self) -> bool:
        """Whether a gap is not durable yet."""
        return bool(self._gaps) or self._gaps_open

    def _gone(self) -> SinkError:
        return SinkError(f"the sink has died: {self._dead}" if self._dead else "the sink is closed")

    def _drop(self, values: list[LoggedValue]) -> None:
        first = not self._gaps
        self._gaps.add(values)
        if first:  # the values before it may be durable already, and the writing thread at rest
            self._wake()
        with self._lock:
            self._lost += len(values)
            self._pending -= len(values)
            warned, self._warned = self._warned, True
        if not warned:
            warn(
                f"the queue of {self._queue.capacity} bytes is full: values are dropped, counted and recorded as gaps "
                "(said once)"
            )

    # the three threads

    def _run(self, work: Callable[[], None], after: Callable[[], None]) -> None:
        try:
            work()
        except QueueClosedError:
            pass
        except BaseException as e:
            log.critical("the sink's %s thread died", threading.current_thread().name, exc_info=True)
            if not isinstance(e, SinkError):  # of the store; counted where it happened
                self._on_error("internal")
            with self._lock:
                self._dead = self._dead or e
                self._changed.notify_all()
            for queue in (self._queue, self._decoded, self._tiles):
                queue.close()
        after()

    def _decode(self) -> None:
        while True:
            first = self._queue.get()
            assert first is not None  # noqa: S101 - without a timeout there is always one
            batch = [first]
            while batch[-1][1].encoded is not None and len(batch) < DECODE_BATCH:
                more = self._queue.get(timeout=0) if len(self._queue) else None
                if more is None:
                    break
                batch.append(more)
            decoded = self._pipeline.decode([value for _, value in batch])
            for (number, _), value in zip(batch, decoded, strict=True):
                self._decoded.put((number, value), value.nbytes)

    def _convert(self) -> None:
        """Hand over the tiles of one value after another, with as many of the next started as the backend wants."""
        started: deque[_Started] = deque()
        while True:
            ahead = sum(value.nbytes for value in started)
            try:
                got = (
                    self._decoded.get(0 if started else None)
                    if not started or ahead < self._pipeline.ahead_bytes
                    else None
                )
            except QueueClosedError:
                if not started:
                    raise
                got = None
            if got is not None:
                started.append(self._started(*got[1]))
                if started[-1].nbytes + ahead < self._pipeline.ahead_bytes:
                    continue
            del got
            self._hand_over(started.popleft())

    def _started(self, number: int, decoded: DecodedValue) -> _Started:
        with self._pipeline_lock:
            row, tiles = self._pipeline.convert(decoded)
        frame = _FrameStart(number=number, value=decoded.value, row=row)
        return _Started(frame=frame, tiles=tiles, nbytes=decoded.nbytes)

    def _hand_over(self, started: _Started) -> None:
        self._tiles.put(started.frame, 0)
        for rows in self._locked(started.tiles):
            self._tiles.put(rows, rows.payload.nbytes)
            del rows
        self._tiles.put(_FrameEnd(), 0)

    def _locked(self, tiles: Iterator[TileRows]) -> Iterator[TileRows]:
        while True:
            with self._pipeline_lock:
                rows = next(tiles, None)
            if rows is None:
                return
            yield rows
            del rows

    def _write(self) -> None:
        while True:
            try:
                got = self._tiles.get(self._patience())
            except QueueClosedError:
                self._commit_when(due=True)
                return
            if got is not None and isinstance(got[1], _FrameStart):
                self._append(got[1])
            del got
            self._commit_when(due=False)

    def _patience(self) -> float | None:
        """Seconds until the open segment wants to be committed."""
        if self._writer.deadline is None:
            return 0.5 if self._gaps else None
        return max(0.0, self._writer.deadline - time.monotonic())

    def _append(self, frame: _FrameStart) -> None:
        self._uncommitted.append(frame.value)
        self._held += frame.value.nbytes
        self._written = frame.number
        tiles = self._frame_tiles()
        try:
            self._writer.append(frame.row, tiles)
        except OSError as e:
            for _ in tiles:
                pass
            self._again(e)
        if frame.row["error"] is not None and frame.value.error is None:
            self._on_error("value_unconverted")

    def _frame_tiles(self) -> Iterator[TileRows]:
        while True:
            got = self._tiles.get()
            assert got is not None  # noqa: S101
            item = got[1]
            del got
            if isinstance(item, _FrameEnd):
                return
            if isinstance(item, TileRows):
                yield item
            del item

    def _commit_when(self, *, due: bool) -> None:
        deadline = self._writer.deadline
        if (
            due
            or self._writer.full
            or self._held >= HELD_BYTES
            or (deadline is not None and time.monotonic() >= deadline)
            or self._durable < self._wanted <= self._written
            or (self._gaps and deadline is None)
        ):
            try:
                self._commit()
            except OSError as e:
                self._again(e)

    def _commit(self) -> None:
        self._gaps_open = True
        gaps = self._gaps.take()
        try:
            for gap in gaps:
                self._writer.append(self._pipeline.row(gap), iter(()))
            nbytes = self._writer.commit()
        except OSError:
            self._gaps.add(gaps)
            self._gaps_open = False
            raise
        committed, self._uncommitted, self._held = self._uncommitted, [], 0
        if committed or gaps:  # before a flush returns: who is told may be gone then
            self._on_durable([*committed, *gaps], nbytes)
        with self._lock:
            self._pending -= len(committed)
            self._durable = max(self._durable, self._written)
            self._gaps_open = False
            self._changed.notify_all()

    def _again(self, error: OSError) -> None:
        """Write the uncommitted values again, under a new name, until that works or the sink is closed."""
        delay = 0.05
        while True:
            log.warning("writing to the store failed, and is tried again: %s", error)
            self._on_error("store_write")
            with self._lock:
                self._failures += 1
                self._failure = str(error)
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closing, delay)
                if self._closing:
                    raise SinkError(f"closed while writing failed: {error}") from error
            delay = min(2 * delay, 2.0)
            try:
                for decoded in self._pipeline.decode(self._uncommitted):
                    with self._pipeline_lock:
                        row, tiles = self._pipeline.convert(decoded)
                    self._writer.append(row, self._locked(tiles))
                self._commit()
            except OSError as e:
                error = e
            else:
                log.warning("writing to the store works again")
                return
