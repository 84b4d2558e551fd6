"""Names of files and directories for the frames of a recording."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from lumatile.read.frame import Frame
from lumatile.values import DATA_KINDS

DIGITS = 6
"""The smallest number of digits of a sequence number."""

MAX_BYTES = 200
"""The longest name of a directory, in bytes of UTF-8; file systems allow 255."""

ESCAPED = re.compile(
    r'[%<>:"/\\|?*\[\]\x00-\x1f]|^[. ]|[. ]$|\.(?=(?:png|jpg|npy|ply|jsonl|json|parquet)$)', re.IGNORECASE | re.DOTALL
)
"""Characters that other systems forbid in names or give a meaning to, and the dot of a file's suffix: the name of a
directory never ends like that of a file."""


def directory_name(entity_path: str) -> str:
    """Return the directory of an entity: its path. Some characters become %XX; long parts are cut and end in a hash."""
    return "/".join(_part(part) for part in entity_path.split("/"))


def _part(part: str) -> str:
    name = ESCAPED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), part)
    if len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.blake2b(part.encode(), digest_size=8).hexdigest()
    return name.encode()[: MAX_BYTES - 17].decode(errors="ignore") + "~" + digest


def whole_number(value: int | np.datetime64) -> int:
    """Return a time point as it is stored: the number of a sequence, or nanoseconds since the epoch."""
    return int(value.astype(np.int64)) if isinstance(value, np.datetime64) else value


class FileNames:
    """File names for the frames of one entity: each is unique, and they sort as the times of the frames do."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        """Choose the timeline that names are made from. `frames`: all frames of the entity that will be named.

        It is the sequence timeline with the most different values; without one, such a time timeline; else log_time.
        """
        values: dict[str, set[int]] = {}
        kinds = set()
        for frame in frames:
            if frame.error is not None or frame.kind not in DATA_KINDS:
                continue
            kinds.add(frame.kind)
            for name, value in () if frame.timeless else frame.times.items():
                if name not in ("log_time", "log_tick"):
                    key = f"1{name}" if isinstance(value, np.datetime64) else f"0{name}"
                    values.setdefault(key, set()).add(whole_number(value))
        best = min(values, key=lambda key: (key[0], -len(values[key]), key), default="1log_time")
        self._timeline = best[1:]
        self._digits = max(DIGITS, *(len(str(value)) for value in values.get(best, ())), 0)
        self._several_kinds = len(kinds) > 1
        self._given: Counter[str] = Counter()

    def of(self, frame: Frame) -> str:
        """Return the name of a frame, without a suffix: frame_000042, time_2011-09-26T13-02-25.594360375, timeless.

        Frames of equal times become frame_000042, frame_000042_2 ... If the entity has several kinds of values, the
        name ends with the kind.
        """
        timeline = self._timeline if self._timeline in frame.times else "log_time"
        value = frame.times[timeline]
        if frame.timeless:
            name = "timeless"
        elif isinstance(value, np.datetime64):
            name = f"{_part(timeline)}_{np.datetime_as_string(value, unit='ns').replace(':', '-')}"
        else:
            name = f"{_part(timeline)}_{value:0{self._digits}d}"
        if self._several_kinds:
            name += f"_{frame.kind}"
        self._given[name] += 1
        return name if self._given[name] == 1 else f"{name}_{self._given[name]}"
