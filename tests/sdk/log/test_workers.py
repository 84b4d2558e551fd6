"""What a worker process has logged is stored, however its parent, or another one, ends it."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from tests.sdk.log.conftest import START
from tests.support.flight_service import poll

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_what_a_pool_of_forked_workers_logged_is_stored_when_the_parent_ends_them(run, rows, tmp_path):
    code, out, err = run("""
        def work(i):
            lt.log_image(f"image/{i}", PIXELS)

        lt.init("app")
        with multiprocessing.get_context("fork").Pool(2) as pool:  # its end is a SIGTERM
            pool.map(work, range(20))
        print(lt.flush())
    """)
    assert (code, out, err) == (0, "store\n", "")
    stored = rows()
    assert sorted(path for path, _, _ in stored) == sorted(f"image/{i}" for i in range(20))
    assert len({(producer, seq) for _, producer, seq in stored}) == 20
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["run"], "nothing is left beside it"


def test_what_workers_logged_that_live_when_the_script_ends_is_stored(run, rows):
    code, _, err = run("""
        import signal

        def work(results):  # as the workers of a torch DataLoader do: they die without any Python code
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for i in range(10):
                lt.log_image(f"image/{os.getpid()}/{i}", PIXELS)
                results.put(i)
            time.sleep(600)

        context = multiprocessing.get_context("fork")
        lt.init("app")
        results = context.Queue()
        loader = [context.Process(target=work, args=(results,), daemon=True) for _ in range(2)]
        for worker in loader:
            worker.start()
        for _ in range(20):
            results.get()
    """)
    assert (code, err) == (0, "")
    assert len({path for path, _, _ in rows()}) == len(rows()) == 20


def test_a_flush_waits_for_what_forked_children_have_logged_dead_or_alive(run):
    code, out, err = run("""
        import signal

        recording = lt.init("app")
        lt.log_image("parent", PIXELS)
        ready, say = os.pipe()
        live, die = os.pipe()
        children = []
        for end in ("killed", "ends", "lives"):
            children.append(os.fork())
            if not children[-1]:
                os.close(die)
                lt.log_image(end, PIXELS)
                os.write(say, b".")
                os.read(live, 1) if end == "lives" else None
                os.kill(os.getpid(), signal.SIGKILL) if end == "killed" else os._exit(0)
        said = b""
        while len(said) < 3:
            said += os.read(ready, 3)
        print(lt.flush(timeout=60), lt.open_store("store").recording("run").entities())
        os.close(die)
        for child in children:
            os.waitpid(child, 0)
    """)
    assert (code, out, err) == (0, "store ['ends', 'killed', 'lives', 'parent']\n", "")


def test_what_workers_logged_is_stored_by_the_next_program_when_all_processes_are_killed(run, rows, tmp_path):
    script = tmp_path / "first.py"
    script.write_text(
        START
        + textwrap.dedent("""
            lt.init("app")
            if not os.fork():
                lt.log_image("worker", PIXELS)
                print("logged", flush=True)
                time.sleep(600)
            time.sleep(600)
        """)
    )
    environment = {**os.environ, "LUMATILE_RECORDING_ID": "run", "LUMATILE_SINK": str(tmp_path / "store")}
    first = subprocess.Popen(
        [sys.executable, script], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True
    )
    assert first.stdout.readline() == b"logged\n"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    first.stdout.close()
    code, _, err = run("""
        lt.init("app", "another").log_image("image", PIXELS)
    """)
    assert (code, err) == (0, "")
    poll(lambda: [path for path, _, _ in rows()] == ["worker"])


def test_processes_of_one_program_share_the_recording_that_is_begun_without_an_id(run):
    script = """
        os.environ.pop("LUMATILE_RECORDING_ID", None)

        def begun():
            return [lt.init(name, sink="memory://x").recording_id for name in ("app", "other", "app")]

        def report(results):
            results.put(begun())

        if __name__ == "__main__":
            ids = begun()
            assert len(set(ids)) == 3
            for method in ("fork", "spawn"):
                context = multiprocessing.get_context(method)
                results = context.Queue()
                process = context.Process(target=report, args=(results,))
                process.start()
                assert results.get() == ids
                process.join()
            print(*ids)
    """
    (code, first, err), (_, second, _) = run(script), run(script)
    assert (code, err) == (0, "")
    assert len({*first.split(), *second.split()}) == 6, "another run has others"
