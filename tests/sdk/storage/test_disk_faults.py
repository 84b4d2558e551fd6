"""A service whose disk is slow, full, or fails, and commits that are killed at every call."""

import itertools
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from tests.support.flight_service import Server, check, fresh, image, logger, poll, quiet
from tests.support.strace import CALLS, faulty, needs_strace, suffered
from tests.support.tmpfs import tmpfs

import lumatile as lt
from lumatile.errors import FlushError
from lumatile.read.verify import verify


@pytest.fixture(autouse=True)
def _without_a_spool(monkeypatch):
    """What a spool does is tested elsewhere."""
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


def logged_on_a_bad_disk(tmp_path, call, fault, when):
    """Two processes log to a service whose disk suffers; the oracle holds, and the disk has suffered."""
    log, store = tmp_path / "strace", tmp_path / "store"
    with Server(store, prefix=faulty(call, fault, when, log)) as server:
        with logger(server.url, 0, 40) as one, logger(server.url, 1, 40) as other:
            assert one.end()[-1] == other.end()[-1] == "40"
        poll(lambda: quiet(store))
        check(store, {0: 40, 1: 40}, url=server.url)
    assert suffered(log) >= 3


@needs_strace
def test_a_slow_disk(tmp_path):
    logged_on_a_bad_disk(tmp_path, "fsync", "delay_enter=50ms", "1+1")


@needs_strace
@pytest.mark.parametrize(("call", "when"), [("fsync", "9+5"), ("rename", "2+3"), ("ftruncate", "2+3")])
def test_an_erroring_disk(tmp_path, call, when):
    logged_on_a_bad_disk(tmp_path, call, "error=EIO", when)


@needs_strace
def test_a_disk_that_is_full_now_and_then(tmp_path):
    logged_on_a_bad_disk(tmp_path, "pwritev,pwritev2", "error=ENOSPC", "2+3")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    with tmpfs(tmp_path / "disk", "24m") as mount:
        yield mount


def test_a_full_disk(small_disk):
    ballast, store = small_disk / "ballast", small_disk / "store"
    ballast.write_bytes(bytes(16 << 20))
    large = np.random.default_rng(1).integers(0, 256, (1000, 1200, 3), np.uint8)  # 13 MB of tiles
    with Server(store) as server:
        recording = lt.new_recording("flight", "full", sink=server.url)
        recording.log_image("large", large)
        with pytest.raises(FlushError, match=r"1 logged values .*cannot store values: .*No space"):
            recording.flush(30)
        other = lt.new_recording("flight", "small", sink=server.url)
        other.log_image("small", image(0, 0))
        assert other.flush(30) == "store"
        ballast.unlink()
        assert recording.flush(30) == "store"
        for each in (recording, other):
            each.disconnect(timeout=10)
        np.testing.assert_array_equal(lt.open_store(store).recording("full").frames("large")[0].source(), large)
        fresh(store, server.url)
    assert verify(store).ok


COMMITS = """
import os, sys
import numpy as np
import lumatile as lt

recording = lt.new_recording("flight", "run", sink="memory://")
recording.save(sys.argv[1], backend="numpy")
for i in range(2):
    recording.set_time_sequence("i", i)
    recording.log_image("w/0", np.random.default_rng([0, i]).integers(0, 256, (40, 60, 3), np.uint8))
    assert recording.flush(30) == "store"
    os.write(1, b"%d\\n" % (i + 1))  # acknowledged
os._exit(0)
"""


def kills(root, call):
    """Kill a process at each such call of two commits, until it outlives them all; how many there were."""
    for when in itertools.count(1):
        store = root / f"{call}-{when}"
        command = [*faulty(call, "signal=KILL", when), sys.executable, "-c", COMMITS, str(store)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            assert done.stdout == "1\n2\n"
            return when - 1
        assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
        acknowledged = len(done.stdout.splitlines())
        if acknowledged or (store / "run" / "frames").exists():
            check(store, {0: acknowledged}, url=str(store))
        fresh(store, str(store), "run")  # the next writer of the recording
        assert verify(store).ok
    return None


@needs_strace
def test_sigkill_at_every_write_fsync_and_rename_of_a_commit(tmp_path):
    with ThreadPoolExecutor(3) as threads:
        counts = dict(zip(CALLS, threads.map(partial(kills, tmp_path), CALLS), strict=True))
    assert counts["fsync"] >= 8
    assert counts["rename"] + counts["renameat"] >= 2
    assert sum(counts.values()) >= 16  # eight a commit
