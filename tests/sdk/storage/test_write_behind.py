"""Writes in a thread of their own: in order, and an error only when nothing runs any more."""

import threading
import time

import pytest

from lumatile.storage.write_behind import DEPTH, WriteBehind


@pytest.fixture
def disk():
    disk = WriteBehind()
    yield disk
    disk.close()


def test_writes_are_run_in_order_and_few_wait(disk):
    done, go, most = [], threading.Semaphore(0), 0

    def write(number):
        go.acquire()
        done.append(number)

    for number in range(20):
        if number >= DEPTH:
            threading.Timer(0.002, go.release).start()
        disk.start(lambda number=number: write(number))
        most = max(most, number + 1 - len(done))
    for _ in range(DEPTH):
        go.release()
    disk.wait()
    assert done == list(range(20))
    assert most == DEPTH


def until_it_is_met(disk, write):
    for _ in range(100):
        disk.start(write)


@pytest.mark.parametrize("meet", [until_it_is_met, lambda disk, _: disk.wait()], ids=["start", "wait"])
def test_an_error_is_met_once_and_when_nothing_runs_any_more(disk, meet):
    """A file may be closed then: a write that still ran would go to whatever has its number next."""
    done = []

    def fail():
        time.sleep(0.02)
        raise OSError("no room")

    def slow():
        time.sleep(0.05)
        done.append("slow")

    disk.start(slow)
    disk.start(fail)
    with pytest.raises(OSError, match="no room"):
        meet(disk, lambda: done.append("behind it"))
    assert done == ["slow"]
    disk.wait()
    disk.start(lambda: done.append("next"))
    disk.wait()
    assert done == ["slow", "next"]


def test_close_waits_and_says_nothing():
    disk, done = WriteBehind(), []

    def fail():
        raise OSError("no room")

    disk.start(lambda: (time.sleep(0.02), done.append(1)))
    disk.start(fail)
    disk.close()
    assert done == [1]
