"""`with recording:` is current in its block, and nowhere else, whatever runs in between."""

import asyncio
import contextlib
import gc

import pytest

import lumatile as lt
from lumatile.sink.memory import VALUES


@pytest.fixture
def recordings(name):
    """Three, the first of which is global."""
    made = [lt.new_recording("tests", sink=f"memory://{name}-{i}") for i in "gab"]
    before = lt.set_global_data_recording(made[0])
    yield made
    lt.set_global_data_recording(before)
    for i, recording in zip("gab", made, strict=True):
        recording.disconnect()
        VALUES.pop(f"{name}-{i}", None)


@pytest.fixture
def logged(name, recordings):
    """The paths in each of the three."""
    return lambda: tuple(sorted(value.entity_path for value in VALUES[f"{name}-{i}"]) for i in "gab")


def log(path):
    lt.log_point(path, [0, 0])


def test_each_asyncio_task_logs_into_its_own_block(recordings, logged):
    everything, a, b = recordings

    async def work(recording, path, turns):
        log(f"{path}/before")
        with recording:
            for i in range(turns):
                await asyncio.sleep(0)
                log(f"{path}/{i}")
        log(f"{path}/after")

    async def main():
        await asyncio.gather(work(a, "a", 2), work(b, "b", 5), work(everything, "g", 3))
        log("main")

    asyncio.run(main())
    others = [f"{path}/{when}" for path in "abg" for when in ("before", "after")]
    assert logged() == (
        sorted([*others, "main", *(f"g/{i}" for i in range(3))]),
        [f"a/{i}" for i in range(2)],
        [f"b/{i}" for i in range(5)],
    )


def test_a_task_or_thread_function_that_begins_in_a_block_is_in_it(recordings, logged):
    _, a, b = recordings

    async def inner():
        await asyncio.sleep(0)
        log("task")
        with b:
            await asyncio.to_thread(log, "thread")

    async def main():
        with a:
            task = asyncio.create_task(inner())
            await asyncio.sleep(0)
        log("outside")
        await task

    asyncio.run(main())
    assert logged() == (["outside"], ["task"], ["thread"])


def test_a_block_of_a_generator_does_not_reach_its_caller(recordings, logged):
    _, a, b = recordings

    def steps(recording, path):
        with recording, contextlib.ExitStack() as stack:
            stack.enter_context(recording)
            for i in range(2):
                log(f"{path}/{i}")
                yield i
        log(f"{path}/end")

    for i, j in zip(steps(a, "a"), steps(b, "b"), strict=True):
        log(f"caller/{i}{j}")
    first = steps(a, "again")
    next(first)
    with b:
        log("in b")
        first.close()
        log("still in b")
    del first
    abandoned = steps(b, "abandoned")
    next(abandoned)
    del abandoned
    gc.collect()
    log("last")
    assert logged() == (
        ["a/end", "b/end", "caller/00", "caller/11", "last"],
        ["a/0", "a/1", "again/0"],
        ["abandoned/0", "b/0", "b/1", "in b", "still in b"],
    )


def test_a_block_of_an_asynchronous_generator_does_not_reach_its_caller(recordings, logged):
    _, a, _ = recordings

    async def steps():
        with a:
            for i in range(2):
                await asyncio.sleep(0)
                log(f"generator/{i}")
                yield i

    async def main():
        async for i in steps():
            log(f"caller/{i}")

    asyncio.run(main())
    assert logged() == (["caller/0", "caller/1"], ["generator/0", "generator/1"], [])


def test_a_block_of_a_context_manager_function_is_current_where_that_is_used(recordings, logged):
    _, a, b = recordings

    @contextlib.contextmanager
    def logging_to(recording):
        with recording:
            log("manager")
            yield

    def steps():
        with logging_to(b):
            log("generator")
            yield

    with logging_to(a):
        log("block")
        for _ in steps():
            log("caller")
    log("outside")
    assert logged() == (["outside"], ["block", "caller", "manager"], ["generator", "manager"])


def test_a_block_comes_before_the_threads_recording_and_after_one_that_a_call_names(recordings, logged):
    everything, a, b = recordings
    before = lt.set_thread_local_data_recording(a)
    with b:
        assert lt.get_thread_local_data_recording() is b
        log("block")
        lt.log_point("named", [0, 0], recording=everything)
    log("thread")
    lt.set_thread_local_data_recording(before)
    assert logged() == (["named"], ["thread"], ["block"])
