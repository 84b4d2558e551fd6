"""Plans: what a job would do, without doing it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

from lumatile.errors import LumatileError
from lumatile_kernels.decode.errors import DecodeError
from lumatile_kernels.decode.image_header import read_header
from lumatile_service.batch.formats import find_reader, left_out
from lumatile_service.batch.job import derived_id
from lumatile_service.batch.log_call import LogCall, listed_calls
from lumatile_service.batch.source_files import SourceFiles

SAMPLES = 8
"""The number of files in a group whose headers are read, at most doubled.

The other files are assumed to be as large on average."""

PYRAMID = 4 / 3
"""The pixels of all levels together, divided by those of the first."""

BYTES = {"linear": 8, "srgb8": 4, "rgba32float": 16}
"""The bytes of a pixel in an image's first level, by tile format."""

DEPTH_BYTES, SEGMENTATION_BYTES = 4, 2
"""The approximate bytes of a pixel of depth, and of class ids with their colors, which are compressed."""


@dataclass(frozen=True, kw_only=True)
class PlannedGroup:
    """The values of one kind at one entity."""

    entity_path: str
    kind: str
    values: int
    bytes_in: int
    bytes_out: int
    """Estimated size in the store."""


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """The values of a dataset, whether they are stored already or not."""

    recording_id: str
    format: str
    values: int
    bytes_in: int
    bytes_out: int
    """Estimated size in the store: tiles, and the files themselves if they are kept."""
    groups: Sequence[PlannedGroup]
    left_out: Mapping[str, int]
    """What the source has and the format does not read, as in `Summary`."""


def plan(
    source: str | PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    reader: str | None = None,
    recording_id: str | None = None,
    tile_format: str = "linear",
) -> IngestPlan:
    """Return what `ingest` with these arguments would log. Raises InvalidValueError, OSError."""
    files = SourceFiles(source)
    name, read = find_reader(files, format, reader)
    groups: defaultdict[tuple[str, str], _Calls] = defaultdict(_Calls)
    for call in listed_calls(read, files):
        groups[call.entity_path, call.kind].add(call)
    planned = [
        PlannedGroup(
            entity_path=entity_path,
            kind=kind,
            values=calls.count,
            bytes_in=calls.nbytes,
            bytes_out=_bytes_out(kind, calls, tile_format),
        )
        for (entity_path, kind), calls in groups.items()
    ]
    return IngestPlan(
        recording_id=recording_id or derived_id(files),
        format=name,
        values=sum(group.values for group in planned),
        bytes_in=sum(group.bytes_in for group in planned),
        bytes_out=sum(group.bytes_out for group in planned),
        groups=planned,
        left_out=left_out(files, name),
    )


class _Calls:
    """Counts and samples of the calls of a group: only a few calls are kept, since they may hold their content."""

    def __init__(self) -> None:
        self.count = 0
        self.nbytes = 0
        self._kept: list[LogCall] = []
        self._stride = 1

    def add(self, call: LogCall) -> None:
        """Count a call."""
        if self.count % self._stride == 0:
            self._kept.append(call)
            if len(self._kept) == 2 * SAMPLES:
                self._kept = self._kept[::2]
                self._stride *= 2
        self.count += 1
        self.nbytes += call.nbytes if call.file_nbytes is None else call.file_nbytes

    def sampled(self) -> Sequence[LogCall]:
        """Return SAMPLES to 2 * SAMPLES of the calls, evenly spread; all of them if there are fewer."""
        return self._kept


def _bytes_out(kind: str, calls: _Calls, tile_format: str) -> int:
    if kind not in ("image", "depth", "segmentation"):
        return 2 * calls.nbytes  # the points, and the arrays they were logged as
    pixels = [count for call in calls.sampled() if (count := _pixels(call)) is not None]
    if not pixels:
        return 0
    per_pixel = {"image": BYTES.get(tile_format, 8), "depth": DEPTH_BYTES}.get(kind, SEGMENTATION_BYTES)
    tiles = calls.count * sum(pixels) / len(pixels) * per_pixel * PYRAMID
    return math.ceil(tiles) + (calls.nbytes if kind == "image" else 0)


def _pixels(call: LogCall) -> int | None:
    if call.pixels is not None:
        return call.pixels
    try:
        header = read_header(call.read())
    except (DecodeError, LumatileError, OSError):
        return None
    return header.width * header.height
