"""`--at`: which of an entity's frames a command means."""

from __future__ import annotations

from typing import Annotated

import typer

from lumatile.errors import InvalidValueError, NotFoundError
from lumatile.read.frame import Frame
from lumatile.read.recording_reader import RecordingReader

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIMELINE=VALUE",
        help="The frame that holds then: a sequence number, or seconds; by default the newest.",
    ),
]


def frame_at(recording: RecordingReader, entity: str, at: str | None) -> Frame:
    """The frame of `entity` that holds at `at`: "frame=42", "sim time=3.5"; None: the newest.

    Raises NotFoundError where there is none, InvalidValueError for an `at` of another form.
    """
    if entity.strip("/") not in recording.entities():
        raise NotFoundError(
            f"recording {recording.recording_id!r} has no entity {entity!r}; it has {recording.entities()}"
        )
    frame = recording.latest_at(entity, at=_parsed(recording, at))
    if frame is None:
        raise NotFoundError(f"nothing holds at {at or 'the end'} in {entity!r}")
    return frame


def _parsed(recording: RecordingReader, at: str | None) -> dict[str, int | float]:
    if at is None:
        return {}
    name, equals, text = at.rpartition("=")
    if not equals or name not in recording.timelines():
        raise InvalidValueError(f"--at must be TIMELINE=VALUE, of one of {sorted(recording.timelines())}, not {at!r}")
    try:
        return {name: int(text) if recording.timelines()[name] == "sequence" else float(text)}
    except ValueError:
        raise InvalidValueError(f"--at must have a number after '=', not {text!r}") from None
