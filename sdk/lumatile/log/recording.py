"""One process's part of a recording."""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, cast

from lumatile.content.extensions import extension_json
from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import FlushError, InvalidTypeError, InvalidValueError, LumatileError, SinkError, shown, warn
from lumatile.log import current, processes
from lumatile.log.log_annotations import log_annotation_context, log_cleared, log_extension_components
from lumatile.log.log_images import log_depth_image, log_image, log_image_file, log_segmentation_image
from lumatile.log.log_points import log_point, log_points
from lumatile.log.set_times import reset_time, set_time_nanos, set_time_seconds, set_time_sequence
from lumatile.log.timelines import Timelines
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import DEFAULT_SINK, Durable, Sink, SinkAt, SinkFactory
from lumatile.urls import absolute
from lumatile.values import DATA_KINDS, Content, Kind, LoggedValue, held_bytes

P = ParamSpec("P")
T = TypeVar("T")


class _Method(Generic[P]):
    """A function of the package as a method: its `recording` is the object."""

    def __init__(self, function: Callable[P, None]) -> None:
        self._function = function

    def __get__(self, recording: RecordingStream | None, owner: type) -> Callable[P, None]:
        if recording is None:
            return self._function
        bound = functools.partial(cast("Callable[..., None]", self._function), recording=recording)
        return cast("Callable[P, None]", bound)


class _Provenance(threading.local):
    """Where what one thread logs comes from."""

    now: Mapping[str, str] | None = None


class RecordingStream:
    """Where a process logs the values of one recording; made by `init` and `new_recording`.

    All log and time functions are its methods too. As a context manager it is the thread's recording inside the
    block, and flushes at the end of it. It may be used by any number of threads; timelines are each thread's own.
    A forked child continues with a stream of its own, into the same sink; so does a process that it is pickled to.
    """

    log_image = _Method(log_image)
    log_image_file = _Method(log_image_file)
    log_depth_image = _Method(log_depth_image)
    log_segmentation_image = _Method(log_segmentation_image)
    log_point = _Method(log_point)
    log_points = _Method(log_points)
    log_annotation_context = _Method(log_annotation_context)
    log_extension_components = _Method(log_extension_components)
    log_cleared = _Method(log_cleared)
    set_time_sequence = _Method(set_time_sequence)
    set_time_seconds = _Method(set_time_seconds)
    set_time_nanos = _Method(set_time_nanos)
    reset_time = _Method(reset_time)

    def __init__(
        self,
        settings: RecordingSettings,
        sink: SinkFactory = DEFAULT_SINK,
        *,
        producer: bytes | None = None,
    ) -> None:
        """A stream whose sink opens at the first value, by `sink`.

        `producer`: 16 bytes, of one who does a stream again: the same values get the same keys; None: random.
        """
        self._settings = settings
        self._factory = sink
        self._refusal = ""
        """Why values are not taken; empty while they are."""
        self.timelines = Timelines()
        """Where each thread stands."""
        self._provenance = _Provenance()
        self._abandoned: list[Sink | None] = []
        """Sinks of the processes this one was forked from: theirs to close, kept so that nothing finalises them."""
        self._sink: Sink | None = None
        self.renew()
        if producer is not None:
            self._producer = producer
        processes.follow(self)

    def renew(self) -> None:
        """Become a new stream into the same sink, without touching the old one's: in a forked child."""
        self._lock = threading.RLock()
        """Held while the sink is opened or changed, and for the counters below."""
        self._abandoned.append(self._sink)
        self._sink = None
        self._producer = secrets.token_bytes(16)
        self._seq = itertools.count()
        self._errors = 0
        self._lost = 0
        self._why_lost = ""

    @property
    def application_id(self) -> str:
        """What the recording is of."""
        return self._settings.application_id

    @property
    def recording_id(self) -> str:
        """Which recording it is; many processes may log to one."""
        return self._settings.recording_id

    @property
    def settings(self) -> RecordingSettings:
        """The settings as they are now."""
        return self._settings

    @property
    def errors(self) -> int:
        """Calls that this process made wrongly: in lenient mode each left a warning and, if it logs, an error row."""
        return self._errors

    @property
    def lost(self) -> int:
        """Values that no sink took, and that no flush has told of yet."""
        return self._lost

    # logging

    @contextmanager
    def provenance(self, uri: str, *, member: str | None = None, content_hash: str | None = None) -> Iterator[None]:
        """What this thread logs in the block comes from there; its frames rows say so, error rows too.

        `uri`: of the file. `member`: which part of it, of an archive for example. `content_hash`: of the bytes that
        the value was made from, with the name of the hash in front: "blake2b:...".
        """
        before = self._provenance.now
        given = {"uri": uri, "member": member, "content_hash": content_hash}
        self._provenance.now = {name: value for name, value in given.items() if value is not None}
        try:
            yield
        finally:
            self._provenance.now = before

    def log_value(
        self,
        kind: Kind,
        entity_path: Any,
        content: Callable[[RecordingSettings], Content],
        *,
        draw_order: Any = None,
        ext: Any = None,
        timeless: Any = False,
    ) -> None:
        """Log what `content` returns; all log functions end here.

        Lenient: whatever goes wrong becomes a LumatileWarning, and a bad argument an error row.
        Strict: raises what `content` raises, InvalidValueError, InvalidTypeError or SinkError.
        """
        path = ""
        try:
            path = normalise_entity_path(entity_path, root=kind not in DATA_KINDS)
            order = _checked_draw_order(draw_order)
            ext_json = extension_json(ext)
            never_ends = bool(timeless)
            fields = content(self._settings)
        except Exception as e:  # noqa: BLE001 - whatever is passed must not stop a training step
            reason = f"{kind} at {shown(entity_path)}: {_text(e)}"
            self._refuse(e, reason)
            self._put(kind, path, {}, error=reason)
            warn(reason)
        else:
            self._put(kind, path, fields, draw_order=order, ext=ext_json, timeless=never_ends)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do what a call that logs nothing asks; lenient: whatever goes wrong becomes a LumatileWarning."""
        try:
            action()
        except Exception as e:  # noqa: BLE001
            self._refuse(e, _text(e))
            warn(_text(e))

    def _refuse(self, error: Exception, reason: str) -> None:
        """Count a bad call; strict: raise it, as a LumatileError."""
        with self._lock:
            self._errors += 1
        if self._settings.strict:
            if isinstance(error, LumatileError):
                raise error
            raise InvalidValueError(reason) from error

    def _put(
        self,
        kind: Kind,
        entity_path: str,
        content: Content,
        *,
        draw_order: float | None = None,
        ext: str | None = None,
        timeless: bool = False,
        error: str | None = None,
    ) -> None:
        seq = next(self._seq)
        value = LoggedValue(
            entity_path=entity_path,
            kind=kind,
            time=self.timelines.time_point(seq, timeless=timeless),
            producer=self._producer,
            seq=seq,
            draw_order=draw_order,
            ext=ext,
            error=error,
            provenance=self._provenance.now,
            nbytes=held_bytes(content, ext),
            **content,
        )
        try:
            self._deliver(value)
        except Exception as e:
            with self._lock:
                self._lost += 1
                self._why_lost = _text(e)
            if self._settings.strict:
                raise e if isinstance(e, LumatileError) else SinkError(_text(e)) from e
            warn(f"a value was lost: {_text(e)}")

    def _deliver(self, value: LoggedValue) -> None:
        while True:
            sink = self._opened()
            try:
                sink.put(value)
            except SinkError:
                if self._sink is sink:
                    raise
                # another thread has changed the sink meanwhile
            else:
                return

    # the sink

    def save(self, store: str | os.PathLike[str], *, backend: str = "auto") -> None:
        """Log to the store at `store` from now on, a directory or URL; flushes and closes the sink before.

        `backend`: what makes the tiles: "auto", "numpy", "numba" or "cuda".
        Raises SinkError where it cannot be opened, InvalidValueError for a URL or backend that there is not; when it
        is open, FlushError if not everything that was logged before is durable.
        """
        self._change_sink(SinkAt(url=_absolute(store), backend=None if backend == "auto" else backend))

    def connect(self, url: str) -> None:
        """Log to `url` from now on; flushes and closes the sink before. Raises as `save` does."""
        self._change_sink(SinkAt(url=_absolute(url)))

    def flush(self, timeout: float | None = None) -> Durable:
        """Wait until all values logged before are durable; says where: "store" or "spool".

        `timeout`: seconds, None: as long as it takes.
        Raises FlushError, in lenient mode too, with the number of those that are not, or that were dropped or lost
        since the last flush.
        """
        with self._lock:
            sink = self._sink
        return self._settle(lambda: "store" if sink is None else sink.flush(timeout))

    def disconnect(self, *, timeout: float | None = None) -> None:
        """Flush, and close the sink. What is logged afterwards is lost, with a warning, until `save` or `connect`.

        `timeout`: longest wait, in seconds. Raises FlushError as `flush` does, when the sink is closed.
        """
        with self._lock:
            sink, self._sink = self._sink, None
            self._refusal = "the recording is disconnected; save or connect it first"
        processes.closed(self)
        self._settle(lambda: None if sink is None else sink.close(timeout))

    def set_strict_mode(self, strict: bool) -> None:
        """True: bad calls raise a LumatileError; False: they warn, and leave an error row."""
        self._settings = replace(self._settings, strict=bool(strict))

    def _change_sink(self, factory: SinkFactory) -> None:
        failure: SinkError | None = None
        with self._lock:
            before, self._sink = self._sink, None
            try:
                self._settle(lambda: None if before is None else before.close())
            except SinkError as e:
                failure = e
            self._factory, self._refusal = factory, ""
            self._opened()
        if failure is not None:
            raise failure

    def _opened(self) -> Sink:
        """The sink; opens it if need be."""
        sink = self._sink
        if sink is not None:
            return sink
        with self._lock:
            if self._refusal:
                raise SinkError(self._refusal)
            if self._sink is None:
                processes.opened(self)
                try:
                    with processes.IMPORTING:
                        self._sink = self._factory(self._settings)
                except LumatileError as e:
                    self._refusal = str(e)
                    raise
                except Exception as e:
                    self._refusal = f"{self._factory} cannot be opened: {_text(e)}"
                    raise (InvalidValueError if isinstance(e, ValueError) else SinkError)(self._refusal) from e
            return self._sink

    def _settle(self, wait: Callable[[], T]) -> T:
        """`wait()`; raises FlushError also for values that no sink took."""
        with self._lock:
            lost, self._lost = self._lost, 0
        try:
            result = wait()
        except FlushError as e:
            raise FlushError(e.undelivered + lost, e.reason) from e
        if lost:
            raise FlushError(lost, self._why_lost)
        return result

    # in a block, and in another process

    def __enter__(self) -> Self:
        current.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current.leave()
        try:
            self.flush()
        except SinkError as e:
            if error is None:
                raise
            warn(str(e))  # the error that ends the block goes on

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordingStream, (self._settings, self._factory)


def _absolute(url: str | os.PathLike[str]) -> str:
    """Return a path as an absolute one, a URL unchanged. Raises InvalidTypeError for neither."""
    if not isinstance(url, str | os.PathLike):
        raise InvalidTypeError(f"a sink must be a path or a URL, not {shown(url)}")
    return absolute(url)


def _text(error: Exception) -> str:
    """What an error says, in valid UTF-8, whatever it is."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001
        text = ""
    text = text.encode(errors="backslashreplace").decode()
    return text if isinstance(error, LumatileError) else f"{type(error).__name__}: {text}"


def _checked_draw_order(draw_order: Any) -> float | None:
    if draw_order is None:
        return None
    rule = "draw_order must be a finite number or None"
    if isinstance(draw_order, str | bytes):
        raise InvalidValueError(f"{rule}, not {shown(draw_order)}")
    try:
        number = float(draw_order)
    except Exception as e:
        raise InvalidValueError(f"{rule}, not {shown(draw_order)}") from e
    if not -float("inf") < number < float("inf"):
        raise InvalidValueError(f"{rule}, not {number}")
    return number
