import ctypes
import gc
import mmap
import os
import sys
import threading

import numpy as np
import pytest

from lumatile.buffers import GRAIN, PAGE, PINNED, BufferPool


def address(array):
    return array.__array_interface__["data"][0]


def test_a_buffer_is_page_aligned_and_writable():
    for nbytes in (1 << 15, (1 << 20) + 1, 5 << 20):
        buffer = BufferPool().take(nbytes)
        assert buffer.shape == (nbytes,)
        assert address(buffer) % PAGE == 0
        buffer.fill(7)
        assert type(buffer) is np.ndarray


def test_memory_is_reused_once_the_last_view_is_gone_and_not_before():
    pool = BufferPool()
    buffer = pool.take(1 << 20)
    where = address(buffer)
    view = buffer[100:200].reshape(10, 10).T
    del buffer
    other = pool.take(1 << 20)
    assert address(other) != where
    del view, other
    gc.collect()
    a, b = pool.take(1 << 20), pool.take((1 << 20) - 5000)
    assert where in {address(a), address(b)}


def test_a_much_larger_buffer_is_not_spent_on_a_small_one():
    pool = BufferPool()
    large = address(pool.take(8 << 20))
    small = pool.take(1 << 20)
    assert address(small) != large


def test_idle_memory_is_bounded():
    pool = BufferPool(idle_bytes=3 << 20)
    loans = [pool.take(1 << 20) for _ in range(8)]
    loans.clear()
    pool.take(1 << 16)
    assert sum(size for size, _, _ in pool._idle) <= (3 << 20) + (1 << 16)


def test_threads_never_share_a_buffer():
    pool = BufferPool()
    wrong = []

    def work(mark):
        for _ in range(200):
            buffer = pool.take(1 << 16)
            buffer.fill(mark)
            if not (buffer == mark).all():
                wrong.append(mark)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_a_forked_child_does_not_write_into_its_parents_buffers():
    pool = BufferPool()
    buffer = pool.take(1 << 16)
    buffer.fill(1)
    pid = os.fork()
    if pid == 0:
        buffer.fill(2)
        os._exit(0)
    os.waitpid(pid, 0)
    assert (buffer == 1).all()


class Pins:
    """Pins, counted; an address is pinned once at a time."""

    def __init__(self):
        self.pinned = set()

    def __call__(self, memory):
        where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        assert where not in self.pinned
        self.pinned.add(where)
        return lambda: self.pinned.remove(where)


def test_large_buffers_are_pinned_for_a_gpu_and_stay_so_while_they_are_reused():
    pool, pins = BufferPool(), Pins()
    pool.take(4 << 20)  # idle again, and not pinned
    pool.pin_with(pins)
    for _ in range(5):
        buffer = pool.take(4 << 20)
        assert address(buffer) in pins.pinned
        del buffer
    assert len(pins.pinned) == 1
    small = pool.take(PINNED - GRAIN)
    assert address(small) not in pins.pinned


def test_a_buffer_that_is_let_go_is_unpinned_first():
    pool, pins = BufferPool(idle_bytes=3 << 20), Pins()
    pool.pin_with(pins)
    loans = [pool.take(1 << 20) for _ in range(8)]
    assert len(pins.pinned) == 8
    loans.clear()
    pool.take(1 << 16)
    assert len(pins.pinned) == 3


def test_a_gpu_that_cannot_pin_is_said_once_and_costs_only_speed(caplog):
    def refuse(memory):
        raise RuntimeError("out of lockable memory")

    pool = BufferPool()
    pool.pin_with(refuse)
    for _ in range(3):
        pool.pin_with(refuse)
        pool.take(5 << 20).fill(1)
        pool.take(9 << 20).fill(1)
    assert [record.message for record in caplog.records] == [
        "buffers are not pinned any more, copies to and from the GPU are slower: out of lockable memory"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="another system has no such pages")
def test_a_forked_child_does_not_see_pinned_buffers_nor_lose_memory_of_its_own_with_them():
    pool = BufferPool()
    pool.pin_with(Pins())
    buffer = pool.take(4 << 20)
    buffer.fill(1)
    pid = os.fork()
    if pid == 0:
        zeros = not buffer.any()
        own = [mmap.mmap(-1, 4 << 20) for _ in range(8)]
        for memory in own:
            memory[:4] = b"mine"
        del buffer
        gc.collect()
        os._exit(not zeros or any(memory[:4] != b"mine" for memory in own))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (buffer == 1).all()


def test_a_handler_of_a_signal_takes_a_buffer_in_the_middle_of_a_take():
    pool = BufferPool()
    taken = []

    def interrupted(memory):  # called in the middle of a take
        taken.append(pool.take(2 << 20))
        return lambda: None

    pool.pin_with(interrupted)
    taking = threading.Thread(target=lambda: taken.append(pool.take(4 << 20)), daemon=True)
    taking.start()
    taking.join(10)
    assert [len(buffer) for buffer in taken] == [2 << 20, 4 << 20]
    assert not np.shares_memory(*taken)
