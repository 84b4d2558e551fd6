"""The ids of recordings for which the program gives none: processes of one program get the same ones."""

from __future__ import annotations

import os
import threading
import uuid
from collections import Counter
from hashlib import blake2b
from multiprocessing import process

from lumatile_kernels import fork

KEY_BYTES = 32
"""The length of the random key that multiprocessing gives to a program and to all processes that it starts."""

_LOCK = threading.RLock()
_BEGUN: Counter[str] = Counter()
"""Application id -> the recordings that this process has begun without an id."""


def default_id(application_id: str) -> str:
    """Return the id of a recording that is begun without one: $LUMATILE_RECORDING_ID, else an id of the program's.

    The n-th of an application in a process has the same id as the n-th in other processes of the same program, and
    that of no other program. (A key of another length was chosen by the program; it may be the same in its next run.)
    """
    if given := os.environ.get("LUMATILE_RECORDING_ID"):
        return given
    key = bytes(process.current_process().authkey)
    if len(key) != KEY_BYTES:
        return str(uuid.uuid4())
    application = str(application_id)  # whether it may be one is checked later
    with _LOCK:
        number = _BEGUN[application]
        _BEGUN[application] += 1
    name = f"lumatile {number} {application}".encode(errors="surrogatepass")
    return str(uuid.UUID(bytes=blake2b(name, key=key, digest_size=16).digest(), version=4))


def _in_child() -> None:
    global _LOCK  # noqa: PLW0603 - a thread of the parent may have held it
    _LOCK = threading.RLock()
    _BEGUN.clear()


fork.at_fork(in_child=_in_child)
