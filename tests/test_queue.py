import threading
import time

import pytest

from lumatile.queue import ByteQueue, QueueClosedError


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
