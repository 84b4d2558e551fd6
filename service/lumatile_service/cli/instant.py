"""The option `--at`: the time of the frame that a command shows."""

from __future__ import annotations

import contextlib
from typing import Annotated

import numpy as np
import typer

from lumatile.errors import InvalidValueError, NotFoundError
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIMELINE=VALUE",
        help="Show the frame that is valid at this time: a sequence number, or seconds or a UTC time as `lumatile ls` "
        "prints it; by default the newest.",
    ),
]


def frame_at(recording: RecordingReader, entity: str, at: str | None) -> Frame:
    """Return the frame of `entity` that is valid at `at`: "frame=42", "sim time=3.5"; None: the newest.

    Raises NotFoundError if there is none, InvalidValueError for an `at` of another form.
    """
    if entity.strip("/") not in recording.entities():
        raise NotFoundError(
            f"recording {recording.recording_id!r} has no entity {entity!r}; it has {recording.entities()}"
        )
    frame = recording.latest_at(entity, at=_parsed(recording, at))
    if frame is None:
        raise NotFoundError(f"{entity!r} has no frame that is valid at {at or 'the end'}")
    return frame


def _parsed(recording: RecordingReader, at: str | None) -> dict[str, int | float | np.datetime64]:
    if at is None:
        return {}
    name, equals, text = at.rpartition("=")
    if not equals or name not in recording.timelines():
        known = sorted(recording.timelines())
        raise InvalidValueError(f"--at must be TIMELINE=VALUE with one of the timelines {known}, not {at!r}")
    if recording.timelines()[name] == "sequence":
        try:
            return {name: int(text)}
        except ValueError:
            rule = f"counts whole steps, as in --at {name}=1"
    else:
        for read in (float, _utc):
            with contextlib.suppress(ValueError):
                return {name: read(text)}
        rule = f"is in seconds or UTC, as in --at {name}=1.5 and --at '{name}=2026-01-31 12:00:00'"
    raise InvalidValueError(f"--at: the timeline {name!r} {rule}, not {text!r}")


def _utc(text: str) -> np.datetime64:
    """Return a time in ISO 8601, with a space or a T in it and with or without a Z. Raises ValueError."""
    if not text[:1].isdigit() and not text.startswith("-"):
        raise ValueError("not a date")  # numpy knows words too
    return np.datetime64(text.removesuffix("Z"))
