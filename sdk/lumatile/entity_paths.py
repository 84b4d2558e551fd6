"""Entity paths, which name the entities of a recording, and how they are normalised."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from lumatile.errors import InvalidTypeError, InvalidValueError, shown

MAX_BYTES = 1024
"""The longest entity path, in bytes of UTF-8."""

RULE = (
    f"entity path must be 1 to {MAX_BYTES} bytes of parts joined by slashes, no part '.' or '..' "
    "(nor a look-alike of those), without control characters"
)


def normalise_entity_path(path: Any, *, root: bool = False) -> str:
    """Return `path` with single slashes between its parts and none at the ends; "" for "/", the root, if `root` is set.

    Raises InvalidTypeError for anything but a string, InvalidValueError for a path that breaks the rule.
    """
    if not isinstance(path, str):
        raise InvalidTypeError(f"entity path must be a string, not {shown(path)}")
    if len(path) > MAX_BYTES + 2:
        raise InvalidValueError(f"{RULE}; not {shown(path)}")
    return "" if root and path and not path.strip("/") else _normalise(str(path))


@lru_cache(maxsize=4096)
def _normalise(path: str) -> str:
    normal = "/".join(part for part in path.split("/") if part)
    # a compatibility form tells what a part looks like: U+2024 is ".", U+FF0F is "/"
    lookalike = "".join(c for c in unicodedata.normalize("NFKC", normal) if unicodedata.category(c) != "Cf")
    if (
        any(part in ("", ".", "..") for part in (*normal.split("/"), *lookalike.split("/")))
        or any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in normal)
        or len(normal.encode()) > MAX_BYTES
    ):
        raise InvalidValueError(f"{RULE}; not {shown(path)}")
    return normal
