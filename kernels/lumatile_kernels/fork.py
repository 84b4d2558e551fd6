"""Forks that wait for a lock: a child would wait forever for what another thread held when it was forked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def hold_across_fork(lock: Any, prepare: Callable[[], None] = lambda: None) -> None:
    """Hold `lock` whenever this process forks; `prepare` runs once it is held. No effect where there is no fork."""
    held: list[bool] = []

    def before() -> None:
        lock.acquire()
        held.append(True)
        prepare()

    def after() -> None:
        if held:  # not where this was registered while another thread was forking
            held.pop()
            lock.release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
