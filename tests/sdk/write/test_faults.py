"""A segment writer on a failing disk, and killed at any moment: commits are whole and stay, nothing torn is visible."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.strace import faulty, needs_strace, suffered

from lumatile.read.store import open_store
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile.storage import local_directory
from lumatile.write.writer import SegmentWriter

SETTINGS = RecordingSettings(application_id="app", recording_id="run")

WRITER = """
import sys
from pathlib import Path

import numpy as np

from lumatile.write import merge
from lumatile.format.point_planes import source_rows
from lumatile.settings import RecordingSettings
from lumatile.write.writer import SegmentWriter

store, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
merge.FAN_IN = 4
merge.KEEP_SECONDS = 0.05


def append(target, seq):
    content = np.random.default_rng(seq).integers(0, 256, 5000 + 70_000 * (seq % 3 == 0), np.uint8)
    row = {"entity_path": "a", "kind": "image", "log_time": seq, "log_tick": seq, "timeless": False, "source": "plane",
           "source_dtype": "uint8", "source_shape": [len(content)], "producer": b"p" * 16, "seq": seq}
    target.append(row, source_rows(content))


target = SegmentWriter(store, RecordingSettings(application_id="app", recording_id="run"))
pending = []
for seq in range(first, last):
    pending.append(seq)
    todo = [seq]
    for attempt in range(50):
        try:
            for each in todo:
                append(target, each)
            if len(pending) == 3 or seq == last - 1:
                target.commit()
                print(seq, flush=True)  # acknowledged: everything up to here is durable
                pending = []
            break
        except OSError:
            todo = list(pending)
    else:
        sys.exit("the disk never recovered")
target.close()
"""


def content(seq):
    return np.random.default_rng(seq).integers(0, 256, 5000 + 70_000 * (seq % 3 == 0), np.uint8)


def write(store, first, last, *, prefix=()):
    """Run a writer in a process of its own."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", WRITER, str(store), str(first), str(last)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def assert_sound(store, acknowledged):
    """Everything up to value `acknowledged` is there, exactly; what else is there is whole."""
    report = verify(store)
    assert report.ok, [str(problem) for problem in report.problems]
    frames = open_store(store).recording("run").frames("a")
    seqs = [frame.key[1] for frame in frames]
    assert seqs == list(range(len(seqs)))
    assert len(seqs) > acknowledged
    for seq, frame in zip(seqs, frames, strict=True):
        np.testing.assert_array_equal(frame.source(), content(seq))


def test_killed_at_any_moment(tmp_path):
    rng = np.random.default_rng(0)
    acknowledged = -1
    for _ in range(6):
        done = len(open_store(tmp_path).recording("run").frames("a")) if acknowledged >= 0 else 0
        process = write(tmp_path, done, done + 100_000)
        lines = []
        reading = threading.Thread(target=lambda process=process, lines=lines: lines.extend(process.stdout))
        reading.start()
        deadline = time.monotonic() + 60
        while not lines and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        reading.join()
        process.communicate()
        acknowledged = int(lines[-1])
        assert_sound(tmp_path, acknowledged)
    assert acknowledged > 10
    with write(tmp_path, acknowledged + 1, acknowledged + 1) as process:  # the next writer starts cleanly
        assert process.wait() == 0


def under_strace(store, fault, call, when, log=Path(os.devnull)):
    """A writer whose system calls suffer."""
    return write(store, 0, 30, prefix=faulty(call, fault, when, log))


@needs_strace
@pytest.mark.parametrize("call", ["pwritev,pwritev2", "fsync", "ftruncate", "rename"])
@pytest.mark.parametrize("fault", ["error=ENOSPC", "error=EIO"])
def test_calls_that_fail_lose_nothing_acknowledged(tmp_path, call, fault):
    SegmentWriter(tmp_path, SETTINGS).close()  # its directories are there, and every 7th call from the 5th on fails
    log = tmp_path.with_suffix(".strace")
    with under_strace(tmp_path, fault, call, "5+7", log) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert suffered(log) >= 1
    assert out.split()[-1] == "29"
    assert_sound(tmp_path, 29)


@needs_strace
@pytest.mark.parametrize("call", ["pwritev,pwritev2", "fsync", "ftruncate", "rename", "unlink"])
@pytest.mark.parametrize("when", [1, 3, 9])
def test_killed_at_a_system_call(tmp_path, call, when):
    with under_strace(tmp_path, "signal=KILL", call, when) as process:
        out, _ = process.communicate(timeout=120)
    acknowledged = int(out.split()[-1]) if out.split() else -1
    assert acknowledged < 29 or call == "unlink"
    if (tmp_path / "run" / "frames").exists():
        assert_sound(tmp_path, acknowledged)
        done = len(open_store(tmp_path).recording("run").frames("a"))
        with write(tmp_path, done, done + 5) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert_sound(tmp_path, done + 4)


def row(seq):
    required = {"entity_path": "a", "kind": "ext", "log_time": seq, "log_tick": seq, "producer": b"p" * 16, "seq": seq}
    return required | {"ext": "{}"}


def files(store):
    return sorted(path.name for path in (store / "run").rglob("*") if path.is_file())


@pytest.mark.parametrize("step", ["fsync of the tiles", "fsync of the frames", "rename", "fsync of the directory"])
def test_a_commit_that_fails_leaves_nothing_or_all_and_can_be_repeated(tmp_path, monkeypatch, step):
    target = SegmentWriter(tmp_path, SETTINGS)
    real, calls = os.fsync, []

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fsync(fd):
        calls.append(fd)
        if len(calls) == {"fsync of the tiles": 1, "fsync of the frames": 3, "fsync of the directory": 4}.get(step):
            full()
        real(fd)

    target.append(row(0), [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        if step == "rename":
            patch.setattr(local_directory.Path, "rename", full)
        with pytest.raises(OSError, match="No space left"):
            target.commit()
    assert target.values == 0
    # what others may have seen stays: they may have acknowledged it
    assert len(files(tmp_path)) == (2 if step == "fsync of the directory" else 0)
    target.append(row(0), [])
    target.close()
    assert [frame.key[1] for frame in open_store(tmp_path).recording("run").frames("a")] == [0]
    assert verify(tmp_path).ok


def test_a_commit_that_cannot_even_clean_up_leaves_only_garbage(tmp_path, monkeypatch):
    target = SegmentWriter(tmp_path, SETTINGS)

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    target.append(row(0), [])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        patch.setattr(local_directory.Path, "unlink", broken)
        with pytest.raises(OSError, match="Input/output"):
            target.commit()
    target.append(row(0), [])
    target.close()
    report = verify(tmp_path)
    assert report.ok
    assert len(report.garbage) == 1
    assert len(open_store(tmp_path).recording("run")) == 1
