"""The embedded sink: what a flush promises, whatever the disk and the process do.

Longer than other files: its tests share the disks that fail.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import uuid
import warnings

import numpy as np
import psutil
import pytest
from simplejpeg import encode_jpeg
from tests.support.flight_service import poll
from tests.support.tmpfs import tmpfs

import lumatile as lt
from lumatile.errors import FlushError, LumatileWarning
from lumatile.read.verify import verify
from lumatile_kernels.host.numpy_backend import NumpyBackend
from lumatile_service.embedded import sink as embedded

pytestmark = pytest.mark.alone


def picture(seed, height=70, width=90):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_what_was_flushed_is_there_in_order_and_exact(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    for i in range(20):
        rec.set_time_sequence("frame", i)
        rec.log_image("camera", picture(i))
    assert rec.flush() == "store"
    frames = list(lt.open_store(tmp_path).recording("run").frames("camera"))
    assert [f.times["frame"] for f in frames] == list(range(20))
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.source(), picture(i))
    rec.disconnect()


def test_values_are_committed_within_seconds_without_a_flush(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    rec.log_image("camera", picture(0))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(lt.LumatileError):
            if lt.open_store(tmp_path).recording("run").latest_at("camera") is not None:
                break
        time.sleep(0.05)
    else:
        pytest.fail("nothing was committed")
    rec.disconnect()


def test_a_value_that_no_other_follows_is_committed_early(tmp_path, monkeypatch):
    monkeypatch.setattr("lumatile.write.writer.SEGMENT_SECONDS", 3600.0)
    monkeypatch.setattr("lumatile.write.writer.EARLY_PART", 3600 * 100)
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    rec.log_image("camera", picture(0))
    poll(lambda: list((tmp_path / "run" / "frames").glob("[!.]*.arrow")), 60)
    rec.disconnect()


def test_the_array_may_be_changed_right_after_the_call(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    array = np.zeros((300, 400, 3), np.uint8)
    for i in range(30):
        array[:] = i
        rec.log_image("camera", array)
    array[:] = 255
    rec.flush()
    values = [f.source()[0, 0, 0] for f in lt.open_store(tmp_path).recording("run").frames("camera")]
    assert values == list(range(30))
    rec.disconnect()


def test_a_value_larger_than_the_queue_is_taken(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path), queue_bytes=1000)
    for i in range(3):
        rec.log_image("camera", picture(i))
    rec.flush()
    assert len(list(lt.open_store(tmp_path).recording("run").frames("camera"))) == 3
    rec.disconnect()


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_drops_are_counted_warned_about_once_and_recorded_as_gaps(tmp_path, policy):
    rec = lt.new_recording("app", "run", sink=str(tmp_path), queue_bytes=8 << 20, queue_policy=policy)
    large = np.zeros((1200, 1000, 3), np.uint8)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(60):
            rec.log_image("camera", large)
    assert [w.category for w in warned] == [LumatileWarning]
    assert "queue" in str(warned[0].message)
    with pytest.raises(FlushError, match="dropped") as raised:
        rec.flush()
    assert rec.flush() == "store"
    read = lt.open_store(tmp_path).recording("run")
    stored = list(read.frames("camera"))
    rows = read.frames_table().select(["kind", "seq", "seq_last"]).to_pylist()
    gaps = [row for row in rows if row["kind"] == "gap"]
    dropped = [seq for gap in gaps for seq in range(gap["seq"], gap["seq_last"] + 1)]
    assert raised.value.undelivered == len(dropped) > 0
    assert len(stored) + len(dropped) == 60
    kept = {row["seq"] for row in rows if row["kind"] == "image"}
    assert kept.isdisjoint(dropped)
    assert (59 in kept) or policy == "drop_newest"
    rec.disconnect()


def test_memory_is_bounded_whatever_the_number_of_frames(tmp_path):
    code = """
        import sys, resource, numpy as np, lumatile as lt, psutil
        rec = lt.new_recording(
            "app", "run", sink=sys.argv[1], queue_bytes=32 << 20, max_block=None, tile_format="srgb8"
        )
        image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
        for i in range(6):
            rec.log_image("camera", image)
        rec.flush()
        before = psutil.Process().memory_info().rss
        peak = before
        for i in range(500):  # 3.1 GB: ten times a queue of 32 MiB and two segments
            rec.log_image("camera", image)
            peak = max(peak, psutil.Process().memory_info().rss)
        rec.flush()
        print(before, peak)
    """
    out = run(code, str(tmp_path)).split()
    shutil.rmtree(tmp_path)
    segments = 2 * (128 << 20)
    assert int(out[1]) - int(out[0]) < (32 << 20) + segments


def run(code, *args):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args], check=True, capture_output=True, text=True, timeout=240
    ).stdout


def test_a_frame_of_30000_by_20000_goes_through_in_bounded_memory(tmp_path):
    code = """
        import sys, numpy as np, lumatile as lt, psutil, threading, time
        tile = np.random.default_rng(0).integers(0, 256, (500, 600), np.uint8)
        image = np.tile(tile, (40, 50))
        assert image.shape == (20000, 30000)
        peak = 0
        def watch():
            global peak
            while True:
                peak = max(peak, psutil.Process().memory_info().rss)
                time.sleep(0.01)
        threading.Thread(target=watch, daemon=True).start()
        before = psutil.Process().memory_info().rss
        rec = lt.new_recording("app", "run", sink=sys.argv[1], tile_format="srgb8")
        rec.log_image("large", image)
        rec.flush()
        print(before, peak)
        frame = lt.open_store(sys.argv[1]).recording("run").latest_at("large")
        assert frame.shape == (20000, 30000, 1) and len(frame.levels) == 8
        np.testing.assert_array_equal(frame.tile(level=0, x=100, y=70)[..., 0], image[70*256:71*256, 100*256:101*256])
        small = frame.image(level=7)
        assert small.shape == (157, 235, 4)
    """
    out = run(code, str(tmp_path)).split()
    payload = 30000 * 20000 * 4 * 4 // 3
    held = int(out[1]) - int(out[0])
    assert held < 600_000_000 + 2 * (128 << 20) + (256 << 20) < payload


def test_several_processes_write_one_recording(tmp_path):
    code = """
        import sys, numpy as np, lumatile as lt
        rec = lt.new_recording("app", "shared", sink=sys.argv[1])
        for i in range(15):
            rec.set_time_sequence("frame", i)
            rec.log_image(f"rank{sys.argv[2]}", np.full((40, 50), i, np.uint8))
    """
    ranks = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path), str(rank)]) for rank in range(3)
    ]
    assert [p.wait(120) for p in ranks] == [0, 0, 0]
    rec = lt.open_store(tmp_path).recording("shared")
    assert rec.entities() == ["rank0", "rank1", "rank2"]
    for rank in range(3):
        assert [f.source()[0, 0] for f in rec.frames(f"rank{rank}")] == list(range(15))


KILLED = """
import sys, numpy as np, lumatile as lt
rec = lt.new_recording("app", "run", sink=sys.argv[1])
first = int(sys.argv[2])
print("ready", flush=True)
for i in range(first, first + 100000):
    rec.set_time_sequence("i", i)
    rec.log_image("camera", np.full((60, 80), i % 251, np.uint8))
    if i % 3 == 0:
        rec.flush()
        print(i, flush=True)
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_flushed(tmp_path):
    rng = np.random.default_rng(1)
    flushed: set[int] = set()
    for attempt in range(10):
        children = []
        for writer in range(5):  # 50 kills, of five processes that write one recording at the same time
            first = (attempt * 5 + writer) * 1_000_000
            command = [sys.executable, "-c", KILLED, str(tmp_path), str(first)]
            children.append((first, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        for first, child in children:
            assert child.stdout.readline() == "ready\n"
            if first % 2_000_000:  # every second one is killed after its first flush, the others perhaps before it
                flushed.add(int(child.stdout.readline()))
            time.sleep(rng.uniform(0, 0.15))
            child.send_signal(signal.SIGKILL)
        for first, child in children:
            lines = child.stdout.read().split("\n")[:-1]
            child.stdout.close()
            child.wait()
            if lines:
                flushed.update(range(first, int(lines[-1]) + 1))
    rec = lt.open_store(tmp_path).recording("run")
    stored = {}
    for frame in rec.frames("camera"):
        i = frame.times["i"]
        assert i not in stored
        stored[i] = frame
        assert (frame.source() == i % 251).all()
    assert len(flushed) >= 25
    assert flushed <= stored.keys()
    assert verify(tmp_path).ok


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB."""
    with tmpfs(tmp_path / "disk", "24m") as mount:
        yield mount


def test_a_full_disk_acknowledges_nothing_that_is_not_durable_and_recovers(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(16 << 20))
    rec = lt.new_recording("app", f"run-{uuid.uuid4()}", sink=str(small_disk))
    rec.log_image("camera", picture(0))
    rec.flush()
    large = picture(1, 1000, 1200)  # 13 MB of tiles
    rec.log_image("camera", large)
    with pytest.raises(FlushError, match="No space") as raised:
        rec.flush(30)
    assert raised.value.undelivered == 1
    read = lt.open_store(small_disk)
    assert len(list(read.recordings())) == 1
    assert verify(small_disk).ok
    ballast.unlink()
    assert rec.flush(30) == "store"
    frames = list(read.recording(rec.recording_id).frames("camera"))
    assert [f.shape[0] for f in frames] == [70, 1000]
    np.testing.assert_array_equal(frames[1].source(), large)
    rec.disconnect()


def test_a_store_that_is_not_writable_is_one_clear_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(lt.LumatileError, match=str(blocked)):
        lt.new_recording("app", sink=str(blocked))
    assert blocked.read_text() == "in the way"


def test_a_forked_child_logs_as_a_producer_of_its_own(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    rec.log_image("parent", picture(0))
    pid = os.fork()
    if pid == 0:
        rec.log_image("child", picture(1))
        rec.flush(30)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    rec.flush()
    table = lt.open_store(tmp_path).recording("run").frames_table()
    producers = dict(zip(table["entity_path"].to_pylist(), table["producer"].to_pylist(), strict=True))
    assert producers.keys() == {"parent", "child"}
    assert producers["parent"] != producers["child"]
    rec.disconnect()


def test_the_threads_end_with_the_sink(tmp_path):
    before = psutil.Process().num_threads()
    for i in range(3):
        rec = lt.new_recording("app", f"run{i}", sink=str(tmp_path))
        rec.log_image("camera", picture(i))
        rec.disconnect()
    assert psutil.Process().num_threads() <= before + 2


def test_a_flush_is_taken_while_a_tile_row_larger_than_the_queue_between_threads_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "AHEAD_BYTES", 1 << 20)
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    for i in range(30):
        rec.log_image("camera", picture(i, 600, 900))
        if i % 3 == 0:
            assert rec.flush(60) == "store"
    assert rec.flush(60) == "store"
    assert len(list(lt.open_store(tmp_path).recording("run").frames("camera"))) == 30
    rec.disconnect()


@pytest.mark.parametrize("fails", ["at once", "in the middle"])
@pytest.mark.parametrize("kind", ["image", "image_file", "depth", "segmentation", "points"])
def test_a_value_that_cannot_be_converted_is_kept_as_it_was_logged(tmp_path, monkeypatch, kind, fails):
    """Memory may be short for a moment, and a flush says "store"."""
    number, log = 0, logging_calls()[kind]
    name = "points" if kind == "points" else kind.removesuffix("_file")
    real = getattr(NumpyBackend, name)

    def convert(self, *args, **options):
        nonlocal number
        number += 1
        if number != 2:
            return real(self, *args, **options)
        if fails == "at once" or kind == "points":
            raise MemoryError("no room")
        return first_of(real(self, *args, **options))

    monkeypatch.setattr(NumpyBackend, name, convert)
    rec = lt.new_recording("app", "run", sink="memory://unconverted")
    rec.save(str(tmp_path), backend="numpy")
    for _ in range(3):
        log(rec)
    assert rec.flush() == "store"
    rec.disconnect()
    good, bad, after = lt.open_store(tmp_path).recording("run").frames("a")
    assert bad.error.startswith("could not be converted: ")
    assert good.error is after.error is bad.shape is None
    if kind == "points":
        np.testing.assert_array_equal(bad.source()["positions"], good.source()["positions"])
    else:
        np.testing.assert_array_equal(bad.source(), good.source())
    assert verify(tmp_path).ok


def first_of(blocks):
    yield next(blocks)
    raise MemoryError("no room")


def logging_calls():
    ids = np.arange(300 * 270, dtype=np.uint16).reshape(300, 270)
    return {
        "image": lambda rec: rec.log_image("a", picture(1, 300, 270)),
        "image_file": lambda rec: rec.log_image_file("a", img_bytes=encode_jpeg(picture(1, 300, 270))),
        "depth": lambda rec: rec.log_depth_image("a", ids),
        "segmentation": lambda rec: rec.log_segmentation_image("a", ids % 7),
        "points": lambda rec: rec.log_points("a", np.arange(15_000.0).reshape(5000, 3)),  # not a small cloud
    }


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np, lumatile as lt

recording = lt.new_recording("app", "run", sink=sys.argv[1])
recording.log_image("x", np.zeros((8, 8), np.uint8))
recording.flush()
stop = threading.Event()


def shoot():
    while not stop.is_set():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.0003)


def interrupt(*_):
    if armed:
        raise KeyboardInterrupt


armed, count = False, 0
signal.signal(signal.SIGINT, interrupt)
thread = threading.Thread(target=shoot)
thread.start()
end = time.monotonic() + 2
while time.monotonic() < end:
    try:
        armed = True
        for _ in range(50):
            recording._outlet._sink.flush(0.001)
    except KeyboardInterrupt:
        count += 1
    except lt.FlushError:
        pass
    armed = False
stop.set()
thread.join()
said = []
other = threading.Thread(target=lambda: said.append(recording.flush(5)), daemon=True)
other.start()
other.join(20)
print(said, count > 20, flush=True)
os._exit(0)
"""


def test_ctrl_c_in_the_middle_of_a_flush_leaves_no_lock_behind(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "['store'] True\n", done.stderr
