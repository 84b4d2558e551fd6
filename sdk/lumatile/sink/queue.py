"""A queue bounded in bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lumatile.settings import QueuePolicy

T = TypeVar("T")


class QueueClosedError(Exception):
    """The other side has gone."""


class ByteQueue(Generic[T]):
    """First in, first out, between threads; its items hold at most `capacity` bytes together.

    An item larger than the queue is taken when the queue is empty, an item of no bytes always.
    """

    def __init__(
        self,
        capacity: int,
        policy: QueuePolicy = "block",
        max_block: float | None = None,
        *,
        on_drop: Callable[[Sequence[T]], None] = lambda _: None,
    ) -> None:
        """`capacity`: bytes; `max_block`: seconds that a put waits for room with policy "block", None: for ever.

        `on_drop`: told of what is dropped for want of room before anybody sees that it is not here any more.
        """
        self.capacity = capacity
        self.nbytes = 0
        """Bytes that the items in it hold now."""
        self.accepted = 0
        """Items accepted since the beginning; items are numbered by it, from 1."""
        self.kept = 0
        """Items accepted since the beginning, without those that were dropped again."""
        self.dropped = 0
        """Items dropped since the beginning, accepted ones and others."""
        self._on_drop = on_drop
        self._policy = policy
        self._max_block = max_block
        self._items: deque[tuple[int, T, int]] = deque()
        self._lock = threading.RLock()
        """Not `with _changed`: Ctrl-C between the steps of that, which are Python, leaves it locked."""
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._woken = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """No further puts are taken."""
        return self._closed

    def _room(self, nbytes: int) -> bool:
        return not nbytes or not self._items or self.nbytes + nbytes <= self.capacity

    def put(self, item: T, nbytes: int) -> list[T]:
        """Add `item`, which holds `nbytes` bytes; returns what was dropped for want of room: items before, or itself.

        Raises QueueClosedError after `close`.
        """
        dropped = []
        with self._lock:
            if not self._closed and not self._room(nbytes):
                if self._policy == "block":
                    self._changed.wait_for(lambda: self._closed or self._room(nbytes), self._max_block)
                elif self._policy == "drop_oldest":
                    while not self._room(nbytes):
                        _, old, size = self._items[0]
                        self.nbytes -= size
                        self.kept -= 1
                        self._items.popleft()
                        dropped.append(old)
                    self._drop(dropped)
            if self._closed:
                raise QueueClosedError
            if not self._room(nbytes):
                self._drop([item])
                return [item]
            self.accepted += 1
            self.kept += 1
            self.nbytes += nbytes
            self._items.append((self.accepted, item, nbytes))
            self._changed.notify_all()
        return dropped

    def _drop(self, items: Sequence[T]) -> None:
        if items:
            self.dropped += len(items)
            self._on_drop(items)

    def get(self, timeout: float | None = None) -> tuple[int, T] | None:
        """Number and value of the oldest item; None if there is none for `timeout` seconds (None: for ever).

        Raises QueueClosedError when the queue is closed and empty.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not self._items:
                if self._closed:
                    raise QueueClosedError
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            number, item, size = self._items.popleft()
            self.nbytes -= size
            self._changed.notify_all()
            return number, item

    def get_nowait(self) -> tuple[int, T] | None:
        """Number and value of the oldest item, None if there is none."""
        with self._lock:
            if not self._items:
                return None
            number, item, size = self._items.popleft()
            self.nbytes -= size
            self._changed.notify_all()
            return number, item

    def wait(self, timeout: float) -> bool:
        """Wait for an item, a wake or the close, at most `timeout` seconds; whether there is an item."""
        with self._lock:
            self._changed.wait_for(lambda: self._items or self._closed or self._woken, timeout)
            self._woken = False
            return bool(self._items)

    def wake(self) -> None:
        """Let who waits go on."""
        with self._lock:
            self._woken = True
            self._changed.notify_all()

    def count(self, number: int) -> int:
        """How many of the items up to `number` are in it."""
        with self._lock:
            return sum(n <= number for n, _, _ in self._items)

    def close(self) -> None:
        """Refuse further puts; gets go on until it is empty."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
