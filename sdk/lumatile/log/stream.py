"""A process's stream of values into a recording: how a log call becomes a value, and what is counted."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from lumatile.content.extensions import extension_json
from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import InvalidValueError, LumatileError, message_of, shown, warn
from lumatile.log import processes
from lumatile.log.outlet import Outlet
from lumatile.log.timelines import Timelines
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import DEFAULT_SINK, SinkFactory
from lumatile.values import DATA_KINDS, Content, Kind, LoggedValue, held_bytes


class _Provenance(threading.local):
    """The origin of the values that one thread logs."""

    now: Mapping[str, str] | None = None


class Stream:
    """The values that one process logs into a recording, numbered from 0; may be used from several threads."""

    def __init__(
        self, settings: RecordingSettings, sink: SinkFactory = DEFAULT_SINK, *, producer: bytes | None = None
    ) -> None:
        """Begin a stream whose sink opens at the first value.

        `sink`: opens the sink. `producer`: 16 bytes, for a task that logs the same values again, so that they get the
        same keys; None: random bytes.
        """
        self._settings = settings
        self.timelines = Timelines()
        """The position of each thread on the timelines."""
        self._provenance = _Provenance()
        self._outlet = Outlet(sink, settings.recording_id)
        self._begin()
        if producer is not None:
            self._producer = producer
        processes.follow(self)

    def _begin(self) -> None:
        self._producer = secrets.token_bytes(16)
        self._seq = itertools.count()
        self._lock = threading.RLock()
        """Held to count."""
        self._errors = 0

    def renew(self) -> None:
        """Begin a stream of its own in a forked child, into the same recording."""
        self._begin()
        self._outlet.renew()

    @property
    def application_id(self) -> str:
        """The name of the application that logs."""
        return self._settings.application_id

    @property
    def recording_id(self) -> str:
        """The id of the recording; several processes may log to one."""
        return self._settings.recording_id

    @property
    def settings(self) -> RecordingSettings:
        """The settings as they are now."""
        return self._settings

    @property
    def errors(self) -> int:
        """The number of bad calls in this process; each gave a warning and, if it logs, an error row, or raised."""
        return self._errors

    @property
    def lost(self) -> int:
        """The number of values that no sink took, and that no flush has reported yet."""
        return self._outlet.lost

    def set_strict_mode(self, strict: bool) -> None:
        """Choose what a bad call does.

        Args:
            strict: True: it raises a LumatileError; False: it gives a LumatileWarning, and leaves an error row.
        """
        self._settings = replace(self._settings, strict=bool(strict))

    @contextmanager
    def provenance(self, uri: str, *, member: str | None = None, content_hash: str | None = None) -> Iterator[None]:
        """Note the origin of the values that this thread logs in the block, error rows included.

        Args:
            uri: The file.
            member: The part of it, for example in an archive; None: the whole file.
            content_hash: The hash of the bytes that the values were made from, after its name: "blake2b:...".
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
        """Log the content that `content` returns; all log functions end here.

        Lenient mode: whatever goes wrong becomes a LumatileWarning, and a bad argument also an error row, which stores
        only the reason: kind and entity path have columns of their own.
        Strict mode: raises the error of `content`, InvalidValueError, InvalidTypeError or SinkError.
        """
        path = ""
        try:
            path = normalise_entity_path(entity_path, root=kind not in DATA_KINDS)
            order = _checked_draw_order(draw_order)
            ext_json = extension_json(ext)
            never_ends = bool(timeless)
            with np.errstate(all="ignore"):  # the program's own choice is for its own arithmetic
                fields = content(self._settings)
        except Exception as e:  # noqa: BLE001 - whatever is passed must not stop a training step
            reason = message_of(e)
            message = f"{kind} at {shown(entity_path)}: {reason}"
            self._refuse(e, message)
            self._put(kind, path, {}, error=reason)
            warn(message)
        else:
            self._put(kind, path, fields, draw_order=order, ext=ext_json, timeless=never_ends)

    def attempt(self, action: Callable[[], None]) -> None:
        """Run `action` for a call that logs nothing; in lenient mode whatever it raises becomes a LumatileWarning."""
        try:
            action()
        except Exception as e:  # noqa: BLE001 - as above
            self._refuse(e, message_of(e))
            warn(message_of(e))

    def _refuse(self, error: Exception, message: str) -> None:
        """Count a bad call; in strict mode raise its error, as a LumatileError."""
        with self._lock:
            self._errors += 1
        if self._settings.strict:
            if isinstance(error, LumatileError):
                raise error
            raise InvalidValueError(message) from error

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
            self._outlet.put(value, self._settings)
        except LumatileError as e:
            if self._settings.strict:
                raise
            warn(f"a value was lost: {message_of(e)}")


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
