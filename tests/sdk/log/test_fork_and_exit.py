"""What was logged is there, however processes begin and end."""

import os
import time

import pytest

from lumatile.read.store import open_store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_values_are_stored_when_a_script_just_ends(run, rows):
    code, _, err = run("""
        lt.init("app")
        for i in range(20):
            lt.log_image(f"image/{i}", PIXELS)
    """)
    assert (code, err) == (0, "")
    assert [(path, seq) for path, _, seq in sorted(rows(), key=lambda row: row[2])] == [
        (f"image/{i}", i) for i in range(20)
    ]


def test_values_are_stored_when_a_script_fails(run, rows):
    code, _, err = run("""
        lt.init("app")
        lt.log_image("image", PIXELS)
        lt.new_recording("app").log_image("other", PIXELS)  # nobody holds on to it
        raise RuntimeError("on purpose")
    """)
    assert code == 1
    assert "on purpose" in err
    assert sorted(path for path, _, _ in rows()) == ["image", "other"]


def test_a_forked_child_has_a_stream_of_its_own(run, rows):
    code, _, err = run("""
        lt.init("app")
        lt.set_time_sequence("frame", 7)
        lt.log_image("before", PIXELS)  # still in the parent's queue when it forks
        children = []
        for i in range(2):
            pid = os.fork()
            if not pid:
                lt.log_image(f"child/{i}/0", PIXELS)
                lt.log_image(f"child/{i}/1", PIXELS)
                sys.exit()
            children.append(pid)
        lt.log_image("after", PIXELS)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
    """)
    assert (code, err) == (0, "")
    stored = rows()
    assert sorted(path for path, _, _ in stored) == ["after", "before", *(f"child/{i}/{j}" for i in "01" for j in "01")]
    by_path = {path: (producer, seq) for path, producer, seq in stored}
    assert len({producer for producer, _ in by_path.values()}) == 3
    assert [by_path[path][1] for path in ("before", "after")] == [0, 1]
    for i in "01":
        assert [by_path[f"child/{i}/{j}"][1] for j in "01"] == [0, 1]
        assert by_path[f"child/{i}/0"][0] == by_path[f"child/{i}/1"][0]


@pytest.mark.parametrize("meanwhile", ["a sink is opened", "values are logged"])
def test_a_fork_never_hangs_whatever_the_parents_threads_are_doing(run, rows, meanwhile):
    code, _, err = run(f"""
        from lumatile.buffers import POOL

        recording = lt.init("app")
        if {meanwhile == "values are logged"}:
            lt.log_image("parent", PIXELS)
        done = threading.Event()

        def log():
            while not done.is_set():
                lt.log_image("parent", np.zeros((200, 200, 3), np.uint8))
                time.sleep(0.001)

        picture = PICTURE

        def log_files():
            while not done.is_set():
                lt.log_image_file("parent", img_bytes=picture)
                time.sleep(0.001)

        def hold_locks():
            while not done.is_set():
                with recording._lock, recording._outlet._lock, POOL._lock:
                    time.sleep(0.005)
                time.sleep(0.001)

        threads = [threading.Thread(target=work) for work in (log, log_files, hold_locks)]
        for thread in threads:
            thread.start()
        children = []
        for i in range(6):
            time.sleep(0.02)
            pid = os.fork()
            if not pid:
                lt.log_image(f"child/{{i}}", np.zeros((200, 200, 3), np.uint8))
                lt.flush(timeout=30)
                os._exit(0)
            children.append(pid)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        done.set()
        for thread in threads:
            thread.join()
    """)
    assert (code, err) == (0, "")
    stored = rows()
    assert sorted({path for path, _, _ in stored}) == [*(f"child/{i}" for i in range(6)), "parent"]
    assert len({(producer, seq) for _, producer, seq in stored}) == len(stored)
    parent = sorted(seq for path, _, seq in stored if path == "parent")
    assert parent == list(range(len(parent)))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_store_what_they_log(run, rows, method):
    code, _, err = run(f"""
        def work(recording, i):
            recording.log_image(f"handed/{{i}}", PIXELS)
            with recording:
                lt.log_image(f"current/{{i}}", PIXELS)
            recording.log_image(f"last/{{i}}", PIXELS)  # nothing flushes it but the end

        if __name__ == "__main__":
            recording = lt.init("app")
            recording.log_image("parent", PIXELS)
            context = multiprocessing.get_context("{method}")
            processes = [context.Process(target=work, args=(recording, i)) for i in range(2)]
            for process in processes:
                process.start()
            for process in processes:
                process.join()
                assert process.exitcode == 0
    """)
    assert (code, err) == (0, "")
    stored = rows()
    assert sorted(path for path, _, _ in stored) == [
        *(f"{kind}/{i}" for kind in ("current", "handed", "last") for i in range(2)),
        "parent",
    ]
    assert len({producer for _, producer, _ in stored}) == 3


def test_the_end_waits_a_bounded_time_and_says_how_many_values_are_lost(run):
    began = time.monotonic()
    code, _, err = run("""
        from lumatile.log import processes
        from lumatile.sink import sinks
        from lumatile.sink.memory import MemorySink

        class StuckSink(MemorySink):
            def flush(self, timeout=None):
                time.sleep(timeout)
                raise lt.FlushError(len(self._values), "timed out")

            def close(self, timeout=None):
                self.flush(timeout)

        processes.EXIT_WAIT = 1.0
        sinks.open_sink = lambda url, settings, *, backend: StuckSink([])
        for i in range(3):
            lt.init("app", f"run {i}").log_image("image", PIXELS)
    """)
    assert code == 0
    assert err.count("1 values were lost at exit") == 3
    assert time.monotonic() - began < 30


def test_the_end_waits_for_as_long_as_values_become_durable(run, tmp_path):
    code, _, err = run(f"""
        from lumatile.log import processes

        processes.EXIT_WAIT, processes.EXIT_LOOK = 1.0, 0.05
        rec = lt.init("app", "run", sink={str(tmp_path / "store")!r})
        for i in range(8000):
            rec.log_point("point", (i, 1))
    """)
    assert (code, err) == (0, "")
    frames = open_store(tmp_path / "store").recording("run").frames("point")
    assert [int(frame.points().positions[0, 0]) for frame in frames[::100]] == list(range(0, 8000, 100))
    assert len(frames) == 8000


def test_the_end_says_how_many_of_the_values_that_became_durable_too_slowly_are_lost(run):
    code, _, err = run("""
        from lumatile.log import processes
        from lumatile.sink import sinks
        from lumatile.sink.memory import MemorySink

        class SlowSink(MemorySink):
            stored = 0

            def flush(self, timeout=None):
                time.sleep(timeout)
                self.stored = min(self.stored + 1, 5)
                raise lt.FlushError(len(self._values) - self.stored, "timed out")

            def close(self, timeout=None):
                self.flush(timeout)

        processes.EXIT_WAIT, processes.EXIT_LOOK = 0.3, 0.1
        sinks.open_sink = lambda url, settings, *, backend: SlowSink([])
        recording = lt.init("app", "run")
        for _ in range(8):
            recording.log_image("image", PIXELS)
    """)
    assert code == 0
    assert "recording run: 3 values were lost at exit: timed out" in err


def test_after_the_end_began_a_thread_that_logs_is_told(run):
    code, out, err = run("""
        import atexit

        def late():
            lt.log_image("late", PIXELS)
            print("said")

        atexit.register(late)  # before the recordings' own: runs after it
        lt.init("app", sink="memory://x").log_image("image", PIXELS)
        lt.disconnect()
    """)
    assert (code, out) == (0, "said\n")
    assert "a value was lost: the recording is disconnected" in err
