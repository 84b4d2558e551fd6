"""Rerun recordings: .rrd files.

Archetypes, components and their meaning are from Rerun's documentation of version 0.41 ("Types", "Concepts": entity
paths, timelines, static data, latest-at); older files are migrated by rerun-sdk, which reads them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from urllib.parse import quote

from lumatile.errors import ImageFileError
from lumatile_service.batch.formats.contents import image_file
from lumatile_service.batch.formats.rerun.archetypes import ARCHETYPES, Value, value_of
from lumatile_service.batch.formats.rerun.file import BrokenRrdError, RrdRecording, opened_rrd
from lumatile_service.batch.formats.rerun.values import RrdValue, RrdValues
from lumatile_service.batch.log_call import LogCall, entity_or, refused
from lumatile_service.batch.source_files import SourceFiles

logger = logging.getLogger(__name__)


def matches(files: SourceFiles) -> bool:
    """Return whether there is a .rrd file."""
    return bool(files.under("", ".rrd"))


def read(files: SourceFiles) -> Iterator[LogCall]:
    r"""List each image, depth image, segmentation, set of points, annotation context and clear of each .rrd file.

    Entities keep their paths: `/a\ b/c` becomes "a b/c". If the files hold more than one recording, its id comes first,
    "<recording id>/camera"; files of one recording are combined. Blueprints are not read.

    Sequences and timestamps stay unchanged; durations become times since 1970-01-01; static values are timeless.
    Rerun's log_time becomes the frame's own log_time, for rows without one the time in the row's id; log_tick is
    counted anew.

    Components of one value that were logged at different rows are combined as Rerun shows them (rows.py); the value is
    at the row that completes it. Counts of points' components other than 1 and N become N.

    Images keep their pixels; BGR becomes RGB, and YUV becomes RGB as in Rerun's viewer; raw Bayer, and integers other
    than uint8 and uint16, become error rows. Floats are linear light here, but gamma in Rerun's viewer: the pixels are
    the same, the look is not. An EncodedImage of JPEG stays compressed. Depth without `meter` has 1000 units per metre
    for integers and 1 for floats; signed integers, and those of 32 and 64 bits, become float64. An EncodedDepthImage
    must be PNG. Radii are kept, including negative ones, which Rerun takes as pixels of the screen.

    Other archetypes and components have no place and are not logged: a log message names and counts them. Of a file
    that is truncated or corrupt, the readable part is logged, and one error row.
    Raises InvalidValueError without rerun-sdk.
    """
    paths = files.under("", ".rrd")
    several = len(_recordings(files, paths)) > 1
    for path in paths:
        failure: Exception | None = None
        try:
            with opened_rrd(files, path) as file:
                failure = file.cut
                for recording in file.recordings:
                    values = RrdValues(file, recording)
                    for value in values:
                        yield _call(files, path, recording, value, several=several)
                    failure = failure or values.failure
                    _tell(path, values.left_out)
        except (BrokenRrdError, OSError) as e:
            failure = e
        if failure is not None:
            yield LogCall(
                entity_path=entity_or(path, "recording"),
                kind="image",
                uri=files.uri(path),
                read=partial(refused, BrokenRrdError(str(failure))),
                log=image_file,
            )


def _recordings(files: SourceFiles, paths: Sequence[str]) -> set[RrdRecording]:
    """Return the recordings in all files that can be read."""
    found = set()
    for path in paths:
        with suppress(BrokenRrdError, OSError), opened_rrd(files, path) as file:
            found.update(file.recordings)
    return found


def _call(files: SourceFiles, path: str, recording: RrdRecording, value: RrdValue, *, several: bool) -> LogCall:
    entity_path = unescaped(value.entity_path)
    if several:
        entity_path = f"{recording.recording_id}/{entity_path}".removesuffix("/")
    try:
        made = value_of(value.archetype, value.parts, static=value.static)
    except ImageFileError as e:
        made = Value(kind=ARCHETYPES[value.archetype].kind, read=partial(refused, e), log=image_file)
    return LogCall(
        entity_path=entity_path or ("/" if made.kind in ("annotation_context", "clear") else "recording"),
        kind=made.kind,
        uri=files.uri(path),
        member=f"{recording.application_id}/{recording.recording_id}, row {value.row_id}, {value.archetype}",
        read=made.read,
        log=made.log,
        beside=made.beside,
        nbytes=made.nbytes,
        pixels=made.pixels,
        sequences=value.sequences,
        times=value.times,
        log_time=value.logged,
    )


def unescaped(entity_path: str) -> str:
    r"""Return Rerun's "/a\ b/c" as "a b/c", and "/" as "".

    Parts that are not allowed here are percent-encoded: "." becomes "%2E", and "x\/y" becomes "x%2Fy".

    Rerun's rule is in its documentation ("Entity paths"): a backslash before a character, \n, \r, \t, and \u{2764}.
    """
    parts = re.findall(r"(?:[^/\\]|\\.)+", entity_path, flags=re.DOTALL)
    return "/".join(_unescaped_part(part) for part in parts)


def _unescaped_part(part: str) -> str:

    def one(escape: re.Match[str]) -> str:
        code, sign = escape.groups()
        return chr(int(code, 16)) if code else _ESCAPED.get(sign, sign)

    text = re.sub(r"\\(?:u\{([0-9a-fA-F]{1,6})\}|(.))", one, part, flags=re.DOTALL)
    return text if "/" not in text and entity_or(text, "") else quote(text, safe="").replace(".", "%2E")


_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def _tell(path: str, left_out: Mapping[str, int]) -> None:
    if left_out:
        said = ", ".join(f"{name} ({count} rows)" for name, count in sorted(left_out.items()))
        logger.warning("%s: not logged, since Lumatile has no place for it: %s", path, said)
