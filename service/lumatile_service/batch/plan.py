"""What a job would do, without doing it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from lumatile_kernels.errors import DecodeError
from lumatile_kernels.image_header import read_header
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.job import derived_id
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.source_files import SourceFiles

SAMPLES = 8
"""Files of a group whose headers are read, evenly spread; the others are taken to be as large on average."""

PYRAMID = 4 / 3
"""All levels together, to the first."""

BYTES = {"linear": 8, "srgb8": 4, "rgba32float": 16}
"""Bytes a pixel of an image's first level."""

DEPTH_BYTES, SEGMENTATION_BYTES = 4, 2
"""The same of depth, and of class ids with their colors, which are compressed: about."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Values of one kind at one entity."""

    entity_path: str
    kind: str
    values: int
    bytes_in: int
    bytes_out: int
    """Estimated."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What there is to do, stored or not."""

    recording_id: str
    format: str
    values: int
    bytes_in: int
    bytes_out: int
    """Estimated: tiles, and the files themselves where they are kept."""
    groups: Sequence[Group]


def plan(
    source: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    reader: str | None = None,
    recording_id: str | None = None,
    tile_format: str = "linear",
) -> Plan:
    """What `ingest` with these arguments would log. Raises InvalidValueError, OSError."""
    files = SourceFiles(source)
    name, read = find_reader(files, format, reader)
    groups: defaultdict[tuple[str, str], list[LogCall]] = defaultdict(list)
    for call in read(files):
        groups[call.entity_path, call.kind].append(call)
    planned = [
        Group(
            entity_path=entity_path,
            kind=kind,
            values=len(calls),
            bytes_in=sum(call.nbytes for call in calls),
            bytes_out=_bytes_out(kind, calls, tile_format),
        )
        for (entity_path, kind), calls in groups.items()
    ]
    return Plan(
        recording_id=recording_id or derived_id(files),
        format=name,
        values=sum(group.values for group in planned),
        bytes_in=sum(group.bytes_in for group in planned),
        bytes_out=sum(group.bytes_out for group in planned),
        groups=planned,
    )


def _bytes_out(kind: str, calls: Sequence[LogCall], tile_format: str) -> int:
    if kind not in ("image", "depth", "segmentation"):
        return 2 * sum(call.nbytes for call in calls)  # points, and what they were logged as
    sampled = calls[:: max(1, len(calls) // SAMPLES)][:SAMPLES]
    pixels = [count for call in sampled if (count := _pixels(call)) is not None]
    if not pixels:
        return 0
    per_pixel = {"image": BYTES.get(tile_format, 8), "depth": DEPTH_BYTES}.get(kind, SEGMENTATION_BYTES)
    tiles = len(calls) * sum(pixels) / len(pixels) * per_pixel * PYRAMID
    return math.ceil(tiles) + (sum(call.nbytes for call in calls) if kind == "image" else 0)


def _pixels(call: LogCall) -> int | None:
    try:
        header = read_header(call.read())
    except (DecodeError, OSError):
        return None
    return header.width * header.height
