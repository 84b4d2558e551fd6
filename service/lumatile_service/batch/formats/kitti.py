"""KITTI: raw drives, and the object, stereo, depth and semantics benchmarks, recognized by names of directories.

Scales and layouts as the devkits' readme files say: raw data (Geiger et al., IJRR 2013): timestamps.txt next to data/,
velodyne scans are float32 x, y, z in metres and reflectance. Stereo 2012 and 2015: disparity PNG, 16 bits, 256 = 1
pixel, 0 = none. Depth (Uhrig et al., 3DV 2017): depth PNG, 16 bits, 256 = 1 m, 0 = none. Object: label_2, fields 11 to
13 are the place of an object in camera coordinates, in metres. Semantics: 8 bits of labelIds; instance PNG, 16 bits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

import numpy as np

from lumatile.errors import InvalidValueError
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.formats.contents import depth_png, image_file, segmentation_png
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.source_files import SourceFiles

PER_UNIT = 256.0
"""The units of a depth PNG per metre, and of a disparity PNG per pixel."""

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
    directory. Raw drives are on the timeline "time" too. Labels of objects are points, with their types as labels.
    Disparities are depth images whose unit is a pixel.
    """
    times = {directory: _times(files, directory) for directory in _timed(files)}
    places: Counter[str] = Counter()
    calls = []
    for path, nbytes in files.sizes.items():
        directory, _, name = path.rpartition("/")
        entity = directory.removesuffix("/data")
        kind_log = _known(entity, name)
        if kind_log is None:
            continue
        kind, log = kind_log
        place = places[entity]
        places[entity] += 1
        digits = re.match(r"\d+", name)
        stamps = times.get(entity, [])
        calls.append(
            LogCall(
                entity_path=entity or files.name,
                kind=kind,
                uri=files.uri(path),
                read=partial(files.read, path),
                log=log,
                nbytes=nbytes,
                sequences={NUMBER: int(digits.group()) if digits else place},
                times={TIMELINE: stamps[place]} if place < len(stamps) else {},
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
    """Log labels of objects: one per line, with 15 fields, of which the first is the type. Raises InvalidValueError."""
    rows = [line.split() for line in content.decode().splitlines() if line.strip()]
    if any(len(row) not in (15, 16) for row in rows):
        raise InvalidValueError("a label must have 15 fields, or 16 with a score")
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


def _known(entity: str, name: str) -> tuple[Kind, Log] | None:
    path = f"{entity}/{name}"
    if "proj_depth/" in path:
        return _KINDS[r"(^|/)proj_depth/.*\.png"] if name.endswith(".png") else None
    return next((known for pattern, known in _KINDS.items() if re.search(pattern + "$", path)), None)


def _timed(files: SourceFiles) -> list[str]:
    return [path.rpartition("/")[0] for path in files.sizes if path.rpartition("/")[2] == "timestamps.txt"]


def _times(files: SourceFiles, directory: str) -> list[int]:
    """Return nanoseconds since the epoch for each line of timestamps.txt: "2011-09-26 13:02:25.594360375", as UTC."""
    path = f"{directory}/timestamps.txt"
    times = []
    for number, line in enumerate(files.read(path).decode(errors="replace").splitlines(), 1):
        whole, _, fraction = line.strip().partition(".")
        if not whole:
            continue
        try:
            second = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            times.append(int(second.timestamp()) * 10**9 + int(fraction.ljust(9, "0")[:9] or "0"))
        except ValueError:
            raise InvalidValueError(f"{path}, line {number}: it must be a date and a time, not {line!r:.80}") from None
    return times
