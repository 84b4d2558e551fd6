"""Logging to a service that is away, slow or dies: what a flush called durable arrives, once, from the spool.

Longer than other files: its tests share a service that comes and goes.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from tests.support.flight_service import Child, Server, check, image, logger, poll, stored_keys
from tests.support.ports import free_port

import lumatile as lt
from lumatile.errors import FlushError
from lumatile.spool import writer as spool_writer
from lumatile.spool.directory import spools


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Where spools are."""
    monkeypatch.setenv("LUMATILE_SPOOL", str(tmp_path / "spools"))
    return tmp_path / "spools"


@pytest.fixture
def port():
    """One that nobody listens at."""
    return free_port()


@pytest.fixture
def url(port):
    return f"grpc://127.0.0.1:{port}"


def log(recording, first, last):
    for i in range(first, last):
        recording.set_time_sequence("i", i)
        recording.log_image("w/0", image(0, i))


def stored(recording):
    return poll(lambda: recording.flush(10) == "store")


def cli(*arguments):
    """`lumatile`: exit code, stdout, stderr."""
    code = "from lumatile_service.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_away_from_the_start_a_flush_says_spool_and_all_arrives_once_when_the_service_comes(tmp_path, root, port, url):
    recording = lt.new_recording("flight", "run", sink=url)
    log(recording, 0, 20)
    began = time.monotonic()
    assert recording.flush() == "spool"
    log(recording, 20, 30)
    assert recording.flush() == "spool"
    assert time.monotonic() - began < 5
    with Server(tmp_path / "store", port=port) as server:
        stored(recording)
        log(recording, 30, 40)
        assert recording.flush(30) == "store"
        check(tmp_path / "store", {0: 40}, url=server.url)
        recording.disconnect()
    assert list(root.iterdir()) == []


def test_a_healthy_service_never_sees_the_disk(tmp_path, root, monkeypatch):
    for limit in ("spill.AWAY_SECONDS", "connection.SILENCE_SECONDS", "flushes.STALLED_SECONDS"):
        monkeypatch.setattr(f"lumatile.delivery.{limit}", 600.0)  # healthy is a service on a busy machine too
    with Server(tmp_path / "store") as server:
        recording = lt.new_recording("flight", "run", sink=server.url)
        log(recording, 0, 20)
        poll(lambda: len(stored_keys(tmp_path / "store")) == 20, 120)  # it is connected
        assert recording.flush(240) == "store"
        recording.disconnect()
    assert not root.exists()


def test_a_service_that_dies_in_the_middle_and_comes_back(tmp_path, root, port, url):
    done = {}
    with Server(tmp_path / "store", port=port) as server, logger(url) as writer:
        poll(lambda: writer.said() > 20)
        for _ in range(2):
            server.kill()
            before = writer.said()
            poll(lambda before=before: writer.said() > before + 10)  # durable, in the spool
            server = Server(tmp_path / "store", port=port)  # noqa: PLW2901
            poll(lambda: not any(path.glob("*.segment")) if (path := next(spools(root), None)) else True)
        done[0] = int(writer.kill()[-1])
        push_all(root, url)
        check(tmp_path / "store", done, url=server.url)
        server.kill()


def push_all(root, url):
    """The next process sends what is left."""
    recording = lt.new_recording("flight", "next", sink=url)
    log(recording, 0, 1)
    assert recording.flush(30) == "store"
    poll(lambda: not list(spools(root)))
    recording.disconnect()


def test_killed_writers_are_adopted_by_the_next_process_and_nothing_durable_is_lost(tmp_path, root, port, url):
    rng = np.random.default_rng(3)
    durable = {}
    for turn in range(3):  # six writers, some at once
        writers = {2 * turn + i: logger(url, 2 * turn + i) for i in range(2)}
        for writer in writers.values():
            poll(lambda writer=writer: writer.said())
        time.sleep(rng.uniform(0, 0.2))  # a random moment
        for worker, writer in writers.items():
            durable[worker] = int(writer.kill()[-1])
    assert len(list(spools(root))) == 6
    with Server(tmp_path / "store", port=port) as server:
        push_all(root, url)
        check(tmp_path / "store", durable, url=server.url)
    assert list(root.iterdir()) == []


def test_a_spool_is_left_to_its_writer_while_that_lives(tmp_path, root, port, url):
    with logger(url, 1) as writer:
        poll(lambda: writer.said() > 10)
        writer.freeze()
        (path,) = spools(root)
        with Server(tmp_path / "store", port=port) as server:
            recording = lt.new_recording("flight", "run", sink=url)
            log(recording, 0, 5)
            assert recording.flush(30) == "store"
            recording.disconnect()
            code, _, err = cli("sync", path)
            assert (code, err) == (2, f"lumatile: {path} is the spool of a process that is alive\n")
            code, out, _ = cli("sync", root)
            assert code == 0
            assert "its process is running" in out
            writer.thaw()
            poll(lambda: not any(path.glob("*.segment")))
            writer.process.send_signal(signal.SIGKILL)
            said = int(writer.end()[-1])
            push_all(root, url)
            check(tmp_path / "store", {0: 5, 1: said}, url=server.url)


def test_sync_sends_a_spool_to_its_service_or_to_another(tmp_path, root, port, url):
    said = {}
    for worker in range(2):
        with logger(url, worker, 30) as writer:
            said[worker] = int(writer.end()[-1])
    first, second = spools(root)
    code, out, _ = cli("sync", first)
    assert code == 1
    assert "are left: " in out
    assert "does not take values" in out
    with Server(tmp_path / "store") as server:
        code, out, err = cli("sync", first, "--url", server.url, "--json")
        report = json.loads(out)
        assert (code, report["ok"], report["spools"][0]["left"]) == (0, True, 0), err
        assert report["spools"][0]["values"] == 30
        assert list(spools(root)) == [second]
        code, out, _ = cli("sync", "--url", server.url)  # all that the user has
        assert code == 0
        assert f"{second}: 30 values sent to {server.url}" in out
        assert cli("sync") == (0, "no spools here: no values wait\n", "")
        check(tmp_path / "store", said, url=server.url)


def test_sync_says_what_is_damaged_and_what_is_no_spool(tmp_path, root, port, url):
    with logger(url, 0, 30) as writer:
        writer.end()
    (path,) = spools(root)
    with (path / "00000001.segment").open("r+b") as file:
        file.seek(3000)
        file.write(b"damage")
    with Server(tmp_path / "store") as server:
        code, out, _ = cli("sync", path, "--url", server.url)
        assert code == 1
        assert "5 values are damaged" in out
        assert len(lt.open_store(tmp_path / "store").recording("run").frames("w/0")) == 25
    assert [file.name for file in path.glob("*.damaged")] == ["00000001.damaged"]
    assert cli("sync", tmp_path / "nowhere")[0] == 2


def test_at_exit_what_is_not_acknowledged_is_in_the_spool(tmp_path, root, port, url):
    code = f"""
        import numpy as np, lumatile as lt
        from lumatile.log import processes
        processes.EXIT_WAIT = 0.0
        lt.init("flight", "run", sink={url!r})
        for i in range(50):
            lt.set_time_sequence("i", i)
            lt.log_image("w/0", np.random.default_rng([0, i]).integers(0, 256, (40, 60, 3), np.uint8))
    """
    began = time.monotonic()
    with Child([textwrap.dedent(code)]) as child:
        child.end()
        assert child.process.returncode == 0
        assert "lost" not in "\n".join(child.errors)
        assert f"values wait on disk for {url}" in "\n".join(child.errors)
    assert time.monotonic() - began < 15
    with Server(tmp_path / "store", port=port) as server:
        push_all(root, url)
        check(tmp_path / "store", {0: 50}, url=server.url)


@pytest.mark.alone
def test_a_frozen_service_is_away_within_seconds_and_a_flush_with_a_timeout_keeps_it(tmp_path, root, port, url):
    with Server(tmp_path / "store", port=port) as server:
        recording = lt.new_recording("flight", "run", sink=url)
        log(recording, 0, 5)
        assert recording.flush(30) == "store"
        server.freeze()
        log(recording, 5, 10)
        began = time.monotonic()
        assert recording.flush(1) == "spool"
        assert 0.4 < time.monotonic() - began < 1.5
        log(recording, 10, 15)
        assert recording.flush() == "spool"
        assert time.monotonic() - began < 6
        server.thaw()
        stored(recording)
        check(tmp_path / "store", {0: 15}, url=server.url)
        recording.disconnect()


def test_a_forked_child_has_a_spool_of_its_own(tmp_path, root, port, url):
    code = f"""
        import os, sys
        import numpy as np, lumatile as lt
        def log(worker, first, last):
            for i in range(first, last):
                lt.set_time_sequence("i", i)
                pixels = np.random.default_rng([worker, i]).integers(0, 256, (40, 60, 3), np.uint8)
                lt.log_image(f"w/{{worker}}", pixels)
            assert lt.flush() == "spool"
        lt.init("flight", "run", sink={url!r})
        log(0, 0, 5)
        pid = os.fork()
        if not pid:
            log(1, 0, 5)
            os.kill(os.getpid(), 9)
        assert os.waitpid(pid, 0)[1] == 9
        log(0, 5, 10)
        os.kill(os.getpid(), 9)
    """
    with Child([textwrap.dedent(code)]) as child:
        child.end()
        assert child.process.returncode == -9, child.errors
    assert len(list(spools(root))) == 2
    with Server(tmp_path / "store", port=port) as server:
        push_all(root, url)
        check(tmp_path / "store", {0: 10, 1: 5}, url=server.url)


def test_a_full_spool_is_an_error_that_says_so_drops_come_last_and_are_recorded(tmp_path, root, port, url):
    options = {"queue_bytes": 1 << 20, "queue_policy": "drop_newest"}
    recording = lt.new_recording("flight", "run", sink=f"{url}?spool_bytes=300000", **options)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        log(recording, 0, 10)
        assert recording.flush() == "spool"
        assert not warned
        log(recording, 10, 300)
    assert len(warned) == 1
    with pytest.raises(FlushError, match="as many bytes wait in the spool as it may hold"):
        recording.flush()
    with Server(tmp_path / "store", port=port):
        poll(lambda: flushed(recording))
        recording.disconnect()
    rows = lt.open_store(tmp_path / "store").recording("run").frames_table().select(["kind", "seq", "seq_last"])
    rows = rows.to_pylist()
    kept = [row["seq"] for row in rows if row["kind"] == "image"]
    dropped = [seq for row in rows if row["kind"] == "gap" for seq in range(row["seq"], row["seq_last"] + 1)]
    assert sorted(kept + dropped) == list(range(300))
    assert len(kept) * image(0, 0).nbytes > 600_000  # queue and spool were full
    assert dropped


def flushed(recording):
    try:
        return recording.flush(10) == "store"
    except FlushError:
        return False


def test_a_disk_without_room_is_an_error_that_says_so_and_values_wait_in_memory(tmp_path, root, port, url, monkeypatch):
    monkeypatch.setattr(spool_writer, "FLOOR_BYTES", 1 << 60)
    monkeypatch.setattr(spool_writer, "FLOOR_PART", 1)
    recording = lt.new_recording("flight", "run", sink=url)
    log(recording, 0, 5)
    with pytest.raises(FlushError, match=r"5 .* does not take values.*; nor do they go to the spool: .* to stay free"):
        recording.flush()
    monkeypatch.setattr(spool_writer, "FLOOR_BYTES", 0)
    assert poll(lambda: tried(recording)) == "spool"
    with Server(tmp_path / "store", port=port) as server:
        stored(recording)
        check(tmp_path / "store", {0: 5}, url=server.url)
        recording.disconnect()


def tried(recording):
    try:
        return recording.flush()
    except FlushError:
        return None


def test_a_spool_that_cannot_be_made_is_an_error_that_says_so(tmp_path, url, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    recording = lt.new_recording("flight", "run", sink=f"{url}?spool={tmp_path / 'file' / 'spools'}")
    log(recording, 0, 5)
    with pytest.raises(FlushError, match=r"nor do they go to the spool: .*(Not a directory|File exists)"):
        recording.flush()
    with pytest.raises(FlushError, match="5 logged values"):
        recording.disconnect(timeout=1)


def test_without_a_spool_a_flush_raises(tmp_path, root, url):
    recording = lt.new_recording("flight", "run", sink=f"{url}?spool=off")
    log(recording, 0, 5)
    with pytest.raises(FlushError, match="5 logged values"):
        recording.flush()
    with pytest.raises(FlushError):
        recording.disconnect(timeout=0)
    assert not root.exists()


@pytest.mark.parametrize("option", ["?spol=off", "?spool_bytes=many", "?spool_bytes=0"])
def test_unknown_options_are_errors(url, option):
    with pytest.raises(lt.LumatileError, match="spool"):
        lt.new_recording("flight", sink=url + option)


def test_memory_is_bounded_while_the_service_is_away_and_nothing_is_dropped(tmp_path, root, port, url):
    code = f"""
        import numpy as np, lumatile as lt, psutil, warnings
        warnings.simplefilter("error")
        rec = lt.new_recording("flight", "large", sink={url!r}, queue_bytes=4 << 20, max_block=60)
        image = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)
        rec.log_image("camera", image)
        assert rec.flush() == "spool"
        before = peak = psutil.Process().memory_info().rss
        for i in range(65):  # 45 MB, ten times queue_bytes
            rec.log_image("camera", image)
            peak = max(peak, psutil.Process().memory_info().rss)
        assert rec.flush() == "spool"
        print(peak - before, flush=True)
        while rec.flush(5) != "store":
            pass
        print(psutil.Process().memory_info().rss - before, flush=True)
        rec.disconnect()
    """
    with Child([textwrap.dedent(code)]) as child:
        assert int(child.line()) < (4 << 20) + (16 << 20)
        with Server(tmp_path / "store", port=port):
            assert int(child.line(1, 60)) < (4 << 20) + (16 << 20)
            child.end()
    assert child.process.returncode == 0, child.errors
    assert len(lt.open_store(tmp_path / "store").recording("large").frames("camera")) == 66


@pytest.mark.alone
def test_the_log_call_does_not_wait_for_the_disk(tmp_path, root, url, monkeypatch):
    real = os.fsync

    def slow(fd):
        time.sleep(0.3)
        real(fd)

    monkeypatch.setattr(os, "fsync", slow)
    recording = lt.new_recording("flight", "run", sink=url)
    slowest = 0.0
    began = time.monotonic()
    i = 0
    while time.monotonic() - began < 2:
        before = time.monotonic()
        log(recording, i, i + 1)
        slowest = max(slowest, time.monotonic() - before)
        i += 1
        time.sleep(0.005)
    assert slowest < 0.2
    assert recording.flush() == "spool"
    recording.disconnect()
