import threading
import time

import pytest
from tests.support.interrupts import interrupted

from lumatile.sink.queue import ByteQueue, QueueClosedError


def test_items_come_out_in_order_and_bytes_are_counted():
    queue = ByteQueue(100)
    for i in range(5):
        assert queue.put(i, 20) == []
    assert queue.nbytes == 100
    assert [queue.get() for _ in range(5)] == [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]
    assert queue.nbytes == 0


def test_block_waits_for_room():
    queue = ByteQueue(10)
    queue.put("a", 10)
    threading.Timer(0.05, queue.get).start()
    assert queue.put("b", 10) == []
    assert queue.get() == (2, "b")


def test_block_gives_up_after_max_block_and_drops_the_new_one():
    queue = ByteQueue(10, "block", 0.05)
    queue.put("a", 10)
    start = time.monotonic()
    assert queue.put("b", 1) == ["b"]
    assert 0.05 <= time.monotonic() - start < 2
    assert queue.get() == (1, "a")


def test_drop_newest_drops_the_new_one_at_once():
    queue = ByteQueue(10, "drop_newest")
    queue.put("a", 6)
    assert queue.put("b", 6) == ["b"]
    assert queue.put("c", 4) == []


def test_drop_oldest_makes_room():
    queue = ByteQueue(10, "drop_oldest")
    for name in "abc":
        queue.put(name, 3)
    assert queue.put("d", 6) == ["a", "b"]
    assert [queue.get(), queue.get()] == [(3, "c"), (4, "d")]


@pytest.mark.parametrize("policy", ["block", "drop_newest", "drop_oldest"])
def test_an_item_larger_than_the_queue_is_taken_when_it_is_empty(policy):
    queue = ByteQueue(10, policy, 0.01)
    assert queue.put("large", 1000) == []
    assert queue.get() == (1, "large")


@pytest.mark.parametrize("policy", ["block", "drop_newest", "drop_oldest"])
def test_an_item_of_no_bytes_is_taken_behind_one_larger_than_the_queue(policy):
    queue = ByteQueue(10, policy, 0.01)
    queue.put("large", 1000)
    assert queue.put("signal", 0) == []
    assert [queue.get(), queue.get()] == [(1, "large"), (2, "signal")]


def test_get_times_out():
    assert ByteQueue(10).get(timeout=0.01) is None


def test_a_closed_queue_refuses_puts_wakes_waiters_and_empties():
    queue = ByteQueue(10)
    queue.put("a", 10)
    threading.Timer(0.05, queue.close).start()
    with pytest.raises(QueueClosedError):
        queue.put("b", 10)
    assert queue.get() == (1, "a")
    with pytest.raises(QueueClosedError):
        queue.get()


def _usable(queue):
    """Whether another thread can put and get."""
    got = []
    other = threading.Thread(target=lambda: (queue.put("b", 10), got.append(queue.get(5))), daemon=True)
    other.start()
    other.join(10)
    return bool(got)


def test_ctrl_c_at_any_moment_of_a_put_leaves_the_queue_usable():
    queue = ByteQueue(1000, "drop_oldest")
    for _ in interrupted(lambda: queue.put("a", 10), 1000):
        assert _usable(queue), "it is locked for ever"
        assert queue.nbytes == 10 * len(queue)
        while queue.get_nowait() is not None:
            pass


@pytest.mark.parametrize(("policy", "dropped"), [("drop_oldest", "a"), ("drop_newest", "b"), ("block", "b")])
def test_what_is_dropped_is_known_before_anybody_finds_it_missing(policy, dropped):
    told = []

    def on_drop(items):
        looking = threading.Thread(target=queue.get_nowait, daemon=True)
        looking.start()
        looking.join(0.1)
        assert looking.is_alive()
        told.extend(items)

    queue = ByteQueue(10, policy, 0, on_drop=on_drop)
    queue.put("a", 10)
    queue.put("b", 10)
    assert told == [dropped]
    assert queue.dropped == 1
