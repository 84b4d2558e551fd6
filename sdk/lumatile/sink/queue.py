"""A queue between threads that is bounded in bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lumatile.settings import QueuePolicy

T = TypeVar("T")


class QueueClosedError(Exception):
    """The queue takes no more items; a reader has taken all that were in it."""


class ByteQueue(Generic[T]):
    """A first-in, first-out queue between threads, whose items together hold at most `capacity` bytes.

    An item larger than that is accepted when the queue is empty, an item of no bytes at any time.
    """

    def __init__(
        self,
        capacity: int,
        policy: QueuePolicy = "block",
        max_block: float | None = None,
        *,
        on_drop: Callable[[Sequence[T]], None] = lambda _: None,
    ) -> None:
        """Begin empty.

        Args:
            capacity: the most bytes of all items together.
            policy: what a put does without room: wait for it, or drop the new item or the oldest ones.
            max_block: seconds that a put with policy "block" waits before it drops its item; None: unlimited.
            on_drop: called with items that are dropped, before any other thread can see that they are missing.
        """
        self.capacity = capacity
        self.nbytes = 0
        """The bytes that its items hold now."""
        self.accepted = 0
        """The number of items accepted since the beginning; the number of an item is this count with it, from 1."""
        self.kept = 0
        """The number of items accepted since the beginning, without those that were dropped afterwards."""
        self.dropped = 0
        """The number of items dropped since the beginning, whether they were accepted before or not."""
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
        """Whether further puts are refused."""
        return self._closed

    def _room(self, nbytes: int) -> bool:
        return not nbytes or not self._items or self.nbytes + nbytes <= self.capacity

    def put(self, item: T, nbytes: int) -> list[T]:
        """Add `item`, which holds `nbytes` bytes.

        Returns:
            The items that were dropped because there was no room: earlier ones, or `item` itself.

        Raises:
            QueueClosedError: the queue is closed, or was closed while this call waited.
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
        """Take the oldest item, and return its number and the item.

        Args:
            timeout: seconds to wait for an item; None: unlimited.

        Returns:
            None: there was no item in that time.

        Raises:
            QueueClosedError: the queue is closed and empty.
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
        """Take the oldest item, and return its number and the item; None: the queue is empty."""
        with self._lock:
            if not self._items:
                return None
            number, item, size = self._items.popleft()
            self.nbytes -= size
            self._changed.notify_all()
            return number, item

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for an item, a `wake` or the `close`; return whether there is an item."""
        with self._lock:
            self._changed.wait_for(lambda: self._items or self._closed or self._woken, timeout)
            self._woken = False
            return bool(self._items)

    def wake(self) -> None:
        """End the current call of `wait`, or the next one."""
        with self._lock:
            self._woken = True
            self._changed.notify_all()

    def count(self, number: int) -> int:
        """Return how many of the items up to `number` are in the queue."""
        with self._lock:
            return sum(n <= number for n, _, _ in self._items)

    def close(self) -> None:
        """Refuse further puts; items can be taken until the queue is empty."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
