import gc
import os
import threading

import numpy as np

from lumatile.buffers import PAGE, BufferPool


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
