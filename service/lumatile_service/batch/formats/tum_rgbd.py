"""TUM RGB-D sequences: rgb.txt and depth.txt list PNG files by their times.

Formats and factors: "Useful tools for the RGB-D benchmark" and "File Formats" of the benchmark's site (Sturm et al.,
IROS 2012): depth PNG, 16 bits, 5000 = 1 m, 0 = no value; associate.py: pairs of times that differ by less than 0.02 s,
the closest first.
"""

from __future__ import annotations

import posixpath
import re
import warnings
from collections.abc import Iterator
from decimal import Decimal
from functools import partial

from lumatile.errors import InvalidValueError
from lumatile_service.batch.formats.contents import depth_png, image_file
from lumatile_service.batch.formats.image_folder import SUFFIXES
from lumatile_service.batch.log_call import DatasetWarning, LogCall
from lumatile_service.batch.source_files import SourceFiles

METER = 5000.0
"""The units of a depth PNG per metre."""

MAX_DIFFERENCE = 20_000_000
"""The largest difference between the times of a pair, exclusive, in nanoseconds."""

TIMELINE, PAIR = "time", "frame"


def matches(files: SourceFiles) -> bool:
    """Return whether a directory has both lists."""
    return bool(_sequences(files))


def read(files: SourceFiles) -> list[LogCall]:
    """List images at `rgb` and depth at `depth`, with their own times on the timeline "time".

    The two of a pair, as associate.py makes pairs, have the same number on the sequence "frame". If the source is a
    directory of sequences, the directory of each comes first: "rgbd_dataset_freiburg1_desk/rgb".
    """
    sequences = _sequences(files)
    outside = [
        path for path in files.under("", *SUFFIXES) if not any(path.startswith(directory) for directory in sequences)
    ]
    if outside and sequences:
        reason = f"{len(outside)} image files are in no sequence and are left out: {outside[0]} for example"
        warnings.warn(reason, DatasetWarning, stacklevel=2)
    return [call for directory in sequences for call in _sequence(files, directory)]


def _sequences(files: SourceFiles) -> list[str]:
    """Return the directories of sequences, with a slash at the end; "": the source itself is one."""
    named = (path.rpartition("/") for path in files.sizes)
    rgb = [directory + slash for directory, slash, name in named if name == "rgb.txt"]
    return [directory for directory in rgb if f"{directory}depth.txt" in files.sizes]


def _sequence(files: SourceFiles, directory: str) -> list[LogCall]:
    color, depth = (dict(_listed(files, directory, name)) for name in ("rgb.txt", "depth.txt"))
    pairs = associate(list(color), list(depth))
    numbers = {time: number for number, pair in enumerate(pairs) for time in (("rgb", pair[0]), ("depth", pair[1]))}
    calls = []
    for entity, listed in (("rgb", color), ("depth", depth)):
        for time, path in listed.items():
            number = numbers.get((entity, time))
            calls.append(
                LogCall(
                    entity_path=directory + entity,
                    kind="image" if entity == "rgb" else "depth",
                    uri=files.uri(path),
                    read=partial(files.read, path),
                    log=image_file if entity == "rgb" else partial(depth_png, meter=METER),
                    nbytes=files.sizes.get(path, 0),
                    times={TIMELINE: time},
                    sequences={} if number is None else {PAIR: number},
                )
            )
    return sorted(calls, key=lambda call: call.times[TIMELINE])


def associate(first: list[int], second: list[int]) -> list[tuple[int, int]]:
    """Return pairs of times in nanoseconds, sorted by the first time; each time is in at most one pair.

    Of all pairs that differ by less than MAX_DIFFERENCE, the closest are chosen first.
    """
    second = sorted(second)
    near = []
    low = 0
    for time in sorted(first):
        while low < len(second) and second[low] <= time - MAX_DIFFERENCE:
            low += 1
        high = low
        while high < len(second) and second[high] < time + MAX_DIFFERENCE:
            near.append((abs(time - second[high]), time, second[high]))
            high += 1
    used_first, used_second, pairs = set(), set(), []
    for _, a, b in sorted(near):
        if a not in used_first and b not in used_second:
            used_first.add(a)
            used_second.add(b)
            pairs.append((a, b))
    return sorted(pairs)


def _listed(files: SourceFiles, directory: str, name: str) -> Iterator[tuple[int, str]]:
    """Yield (time, path in the source) of each line, "seconds path"; lines with # in front are comments.

    A comma may stand between the two, a byte order mark at the beginning, and "./" before a path. Raises
    InvalidValueError.
    """
    text = files.read(directory + name).decode("utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = re.split(r"[\s,]+", line.strip(), maxsplit=1)
        if not words[0] or words[0].startswith("#"):
            continue
        try:
            yield int(Decimal(words[0]) * 10**9), _path(files, directory, words[1])
        except (ArithmeticError, IndexError, ValueError):
            reason = f"{directory}{name}, line {number}: it must be a time and a file, not {line!r:.80}"
            raise InvalidValueError(reason) from None


def _path(files: SourceFiles, directory: str, listed: str) -> str:
    """Return the path of a listed file, without "./" and what may follow it; as it stands, if there is no such file."""
    first = listed.split(maxsplit=1)[0]
    tried = (directory + posixpath.normpath(each) for each in (listed, first, first.replace("\\", "/")))
    return next((each for each in tried if each in files.sizes), directory + first)
