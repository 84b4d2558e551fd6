"""KITTI: raw drives, and the object, stereo, depth and semantics benchmarks, recognized by names of directories.

Scales and layouts as the devkits' readme files say: raw data (Geiger et al., IJRR 2013): timestamps.txt next to data/,
velodyne scans are float32 x, y, z in metres and reflectance. Stereo 2012 and 2015: disparity PNG, 16 bits, 256 = 1
pixel, 0 = none. Depth (Uhrig et al., 3DV 2017): depth PNG, 16 bits, 256 = 1 m, 0 = none. Object: label_2, fields 11 to
13 are the place of an object in camera coordinates, in metres; -1000 is written where it is unknown, as of DontCare
regions. Semantics: 8 bits of labelIds; instance PNG, 16 bits.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import numpy as np

from lumatile.errors import InvalidValueError
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.formats.contents import depth_png, image_file, segmentation_png
from lumatile_service.batch.log_call import DatasetWarning, LogCall
from lumatile_service.batch.source_files import SourceFiles

PER_UNIT = 256.0
"""The units of a depth PNG per metre, and of a disparity PNG per pixel."""

NOWHERE = -1000.0
"""Each coordinate of an object whose place is unknown."""

TIMELINE, NUMBER = "time", "frame"

Log = Callable[[RecordingStream, str, bytes], None]


def matches(files: SourceFiles) -> bool:
    """Return whether a directory has a name that only KITTI uses."""
    names = {part for path in files.sizes for part in path.split("/")[:-1]}
    return any(
        re.fullmatch(r"image_0?[0-3]|velodyne(_points)?|proj_depth|disp_(occ|noc)(_\d)?", name) for name in names
    )


def read(files: SourceFiles) -> list[LogCall]:
    """List each known file at the entity of its directory (without `data`).

    The sequence "frame" has the number in its name, the first one for NUMBER_10.png of stereo, else its number in the
    directory. Raw drives are on the timeline "time" too: line n + 1 of timestamps.txt is the time of file n. Labels of
    objects are points, with their types as labels, without those whose place is unknown. Disparities are depth images
    whose unit is a pixel.
    """
    numbers: defaultdict[str, dict[str, int]] = defaultdict(dict)
    found = [(path, *known) for path in files.sizes if (known := _known(path))]
    for path, entity, _, _ in found:
        digits = re.match(r"\d+", path.rpartition("/")[2])
        numbers[entity][path] = int(digits.group()) if digits else len(numbers[entity])
    times = {path: time for entity in _timed(files) for path, time in _times(files, entity, numbers[entity]).items()}
    calls = []
    for path, entity, kind, log in found:
        calls.append(
            LogCall(
                entity_path=entity or files.name,
                kind=kind,
                uri=files.uri(path),
                read=partial(files.read, path),
                log=log,
                nbytes=files.sizes[path],
                sequences={NUMBER: numbers[entity][path]},
                times={TIMELINE: times[path]} if path in times else {},
            )
        )
    return calls


def log_scan(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    """Log a velodyne scan, (N, 4) float32: x, y, z in metres, and reflectance, which becomes the gray of the points."""
    if len(content) % 16:
        raise InvalidValueError(f"a scan must have 16 bytes a point, not {len(content)}")
    scan = np.frombuffer(content, "<f4").reshape(-1, 4)
    recording.log_points(entity_path, scan[:, :3], colors=np.repeat(scan[:, 3:], 3, axis=1))


def log_objects(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    """Log labels of objects: one per line, with 15 fields, of which the first is the type. Raises InvalidValueError.

    Those without a place, as DontCare regions, are left out.
    """
    rows = [line.split() for line in content.decode().splitlines() if line.strip()]
    if any(len(row) not in (15, 16) for row in rows):
        raise InvalidValueError("a label must have 15 fields, or 16 with a score")
    rows = [row for row in rows if not all(float(place) == NOWHERE for place in row[11:14])]
    types = sorted({row[0] for row in rows})
    recording.log_points(
        entity_path,
        np.array([row[11:14] for row in rows], np.float32).reshape(-1, 3),
        labels=[row[0] for row in rows] or None,
        class_ids=[types.index(row[0]) + 1 for row in rows] or None,
    )


_KINDS: Mapping[str, tuple[Kind, Log]] = {
    r"(^|/)image_0?[0-3]/.*\.(png|jpg)": ("image", image_file),
    r"(^|/)proj_depth/.*\.png": ("depth", partial(depth_png, meter=PER_UNIT)),
    r"(^|/)disp_(occ|noc)(_\d)?/.*\.png": ("depth", partial(depth_png, meter=PER_UNIT)),
    r"(^|/)(semantic|instance)/.*\.png": ("segmentation", segmentation_png),
    r"(^|/)velodyne(_points)?/.*\.bin": ("points", log_scan),
    r"(^|/)label_[23]/.*\.txt": ("points", log_objects),
}


def _known(path: str) -> tuple[str, Kind, Log] | None:
    """Return the entity of a file, its kind and the function that logs it; None: it is not logged."""
    directory, _, name = path.rpartition("/")
    entity = directory.removesuffix("/data")
    path = f"{entity}/{name}"
    patterns = [r"(^|/)proj_depth/.*\.png"] if "proj_depth/" in path else list(_KINDS)
    for pattern in patterns:
        if re.search(pattern + "$", path):
            return (entity, *_KINDS[pattern])
    return None


def _timed(files: SourceFiles) -> list[str]:
    return [path.rpartition("/")[0] for path in files.sizes if path.rpartition("/")[2] == "timestamps.txt"]


def _times(files: SourceFiles, directory: str, numbers: Mapping[str, int]) -> dict[str, int]:
    """Return the time of each file of a directory that has one. `numbers`: path -> the number in its name.

    Line n + 1 of timestamps.txt is the time of file n, also if other files are missing. If the numbers are beyond the
    lines, and there are as many lines as files, the lines are those of the files in their order.
    """
    lines = _lines(files, f"{directory}/timestamps.txt")
    filled = [time for time in lines if time is not None]
    beyond = [path for path, number in numbers.items() if number >= len(lines)]
    if beyond and len(filled) == len(numbers):
        return dict(zip(numbers, filled, strict=True))
    if beyond:
        reason = f"{len(beyond)} files have no line in it and so no time, the first of them {beyond[0]}"
        warnings.warn(f"{directory}/timestamps.txt: {reason}", DatasetWarning, stacklevel=2)
    found = {path: lines[number] for path, number in numbers.items() if number < len(lines)}
    return {path: time for path, time in found.items() if time is not None}


def _lines(files: SourceFiles, path: str) -> list[int | None]:
    """Return nanoseconds since the epoch for each line of a file: "2011-09-26 13:02:25.594360375", as UTC.

    An empty line is None. Raises InvalidValueError.
    """
    times: list[int | None] = []
    for number, line in enumerate(files.read(path).decode(errors="replace").splitlines(), 1):
        whole, _, fraction = line.strip().partition(".")
        if not whole:
            times.append(None)
            continue
        try:
            second = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            times.append(int(second.timestamp()) * 10**9 + int(fraction.ljust(9, "0")[:9] or "0"))
        except ValueError:
            raise InvalidValueError(f"{path}, line {number}: it must be a date and a time, not {line!r:.80}") from None
    return times
