"""A service whose disk is slow, full, or fails, and commits that are killed at every call."""

import os
import shutil
import subprocess

import numpy as np
import pytest

import lumatile as lt
from lumatile.errors import FlushError
from lumatile.verify import verify

from .flight_service import Server, check, fresh, image, logger, poll, quiet


@pytest.fixture(autouse=True)
def _without_a_spool(monkeypatch):
    """What a spool does is tested elsewhere."""
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


def strace_works():
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-o", os.devnull, "true"], check=False, capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[-100:]}"


NO_STRACE = strace_works()


@pytest.mark.skipif(NO_STRACE is not None, reason=str(NO_STRACE))
@pytest.mark.parametrize(
    ("call", "fault", "when"),
    [
        ("fsync", "error=EIO", "9+5"),
        ("pwritev,pwritev2", "error=ENOSPC", "5+7"),
        ("rename", "error=EIO", "2+3"),
        ("fsync", "delay_enter=50ms", "1+1"),
    ],
)
def test_a_disk_that_fails_or_is_slow(tmp_path, call, fault, when):
    strace = ["strace", "--seccomp-bpf", "-f", "-qq", "-o", os.devnull]
    strace += [f"-etrace={call}", f"-einject={call}:{fault}:when={when}"]
    with Server(tmp_path, prefix=strace) as server:
        with logger(server.url, 0, 40) as one, logger(server.url, 1, 40) as other:
            assert one.end()[-1] == other.end()[-1] == "40"
        poll(lambda: quiet(tmp_path))
        check(tmp_path, {0: 40, 1: 40}, url=server.url)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_is_told_of_and_values_wait_until_there_is_room(small_disk):
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
