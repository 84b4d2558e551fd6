"""Logging to a service: what arrives, what is said, and what a process may do meanwhile.

Longer than other files: its tests share one server.
"""

import io
import random
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import psutil
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import flight
from tests.support.flight_service import Server, check, image, poll, settings_of, stored_keys, stored_tiles
from tests.support.ports import free_port

import lumatile as lt
from lumatile.errors import FlushError, LumatileWarning
from lumatile.settings import RecordingSettings
from lumatile_kernels import select_backend
from lumatile_service.ingest.recordings import Ingest

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _without_a_spool(monkeypatch):
    """What a spool does is tested elsewhere."""
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server process; `server.store` is its store."""
    store = tmp_path_factory.mktemp("service")
    with Server(store) as server:
        server.store = store
        yield server


@pytest.fixture
def nowhere():
    """A port that nobody listens at."""
    return free_port()


def log_everything(recording):
    rng = np.random.default_rng(0)
    jpeg = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (300, 200, 3), np.uint8)).save(jpeg, "JPEG")
    recording.log_annotation_context("/", [(1, "car", (255, 0, 0)), (2, "tree")])
    recording.set_time_sequence("step", 2**62)
    recording.set_time_nanos("sensor", -5)
    for dtype in ("uint8", "uint16", "float16", "float32", "float64"):
        recording.log_image(f"i/{dtype}", (rng.random((70, 50, 3)) * 200).astype(dtype), draw_order=1.5, ext={"é": [1]})
        recording.log_depth_image(f"d/{dtype}", (rng.random((70, 50)) * 200).astype(dtype), meter=3.7)
    recording.log_image("leading", np.zeros((1, 1, 4, 4), np.uint8))
    recording.log_segmentation_image("s", rng.integers(0, 5, (300, 400)))
    recording.log_image_file("jpeg", img_bytes=jpeg.getvalue())
    recording.log_image_file("broken", img_bytes=jpeg.getvalue()[:2000])  # its header is whole
    recording.log_points("p", rng.random((900, 3)), colors=rng.random((900, 4)), labels=["a", None, "ü"] * 300, radii=2)
    recording.log_points("p", None)
    recording.log_point("q", [1, 2], label="one", class_id=1, keypoint_id=4)
    recording.log_points("ids", rng.random((3, 2)), identifiers=[0, 5, 2**64 - 1])
    recording.log_extension_components("x", {"a": {"b": None}}, timeless=True)
    recording.log_cleared("x", recursive=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recording.log_image("bad", np.zeros(3))


def rows(store, recording):
    """Frames rows, without what differs from run to run."""
    table = lt.open_store(store).recording(recording).frames_table()
    return table.drop_columns(["log_time", "producer"]).sort_by("seq")


def test_everything_reads_back_as_from_the_embedded_sink(server, tmp_path):
    for sink in (server.url, tmp_path):
        recording = lt.new_recording("app", "everything", sink=sink)
        log_everything(recording)
        assert recording.flush(60) == "store"
        recording.disconnect()
    ours, embedded = rows(server.store, "everything"), rows(tmp_path, "everything")
    differing = [name for name in ours.column_names if ours[name] != embedded[name]]
    assert set(differing) <= {"first_tile"}
    assert stored_tiles(server.store, "everything") == stored_tiles(tmp_path, "everything")
    read = [lt.open_store(store).recording("everything") for store in (server.store, tmp_path)]
    for path in read[0].entities():
        for frame, other in zip(*(each.frames(path or "/") for each in read), strict=True):
            assert frame.times.keys() == other.times.keys()
            if frame.kind in ("image", "depth", "segmentation") and path not in ("bad", "broken"):
                np.testing.assert_array_equal(np.asarray(frame.source()), np.asarray(other.source()))


def test_a_value_larger_than_a_message_arrives_in_parts(server):
    large = np.random.default_rng(0).random((2000, 2500), np.float32)  # 20 MB
    recording = lt.new_recording("app", "large", sink=server.url, queue_bytes=1 << 20)
    recording.log_depth_image("d", large)
    recording.log_depth_image("d", large[:10])
    recording.flush(60)
    frames = lt.open_store(server.store).recording("large").frames("d")
    np.testing.assert_array_equal(frames[0].source(), large)
    np.testing.assert_array_equal(frames[1].source(), large[:10])
    recording.disconnect()


def test_the_random_numbers_of_the_program_are_left_to_it(server, tmp_path):
    random.seed(1)
    before = random.getstate()
    recording = lt.new_recording("app", "seeded", sink=server.url)
    recording.log_image("a", image(0, 0))
    assert recording.flush(30) == "store"
    away = lt.new_recording("app", "away", sink=f"grpc://127.0.0.1:1?spool={tmp_path / 'spool'}")
    away.log_image("a", image(0, 0))
    assert away.flush(30) == "spool"
    recording.disconnect()
    away.disconnect(timeout=5)
    assert random.getstate() == before


def test_lenient_leaves_an_error_row_and_strict_raises(server):
    recording = lt.new_recording("app", "lenient", sink=server.url)
    with pytest.warns(LumatileWarning, match="bad"):
        recording.log_image("bad", np.zeros(3))
    recording.set_strict_mode(True)
    with pytest.raises(lt.LumatileError):
        recording.log_image("bad", np.zeros(3))
    recording.flush(30)
    (frame,) = lt.open_store(server.store).recording("lenient").frames("bad")[:1]
    assert frame.error == "image must be HxW, HxWx1, HxWx3 or HxWx4, not (3,)"
    recording.disconnect()


def test_settings_travel(server):
    recording = lt.new_recording("other app", "settings", sink=server.url, tile_format="srgb8", compression="zstd")
    recording.log_image("i", image(0, 0))
    recording.flush(30)
    settings = settings_of(server.store, "settings")
    assert (settings["tile_format"], settings["compression"]) == ("srgb8", "zstd")
    read = lt.open_store(server.store).recording("settings")
    assert read.application_id == "other app"
    assert read.latest_at("i").format == "rgba8unorm-srgb"
    recording.disconnect()


def test_a_refused_value_costs_only_itself(server):
    recording = lt.new_recording("app", "refused", sink=server.url)
    recording.log_image("i", image(0, 0))
    for i in range(1025):
        recording.set_time_sequence(f"t{i}", 0)
    recording.log_image("i", image(0, 1))
    recording.reset_time()
    recording.log_image("i", image(0, 2))
    with pytest.raises(FlushError, match="refused by the service: a value must be on at most 1024") as raised:
        recording.flush(30)
    assert raised.value.undelivered == 1
    assert recording.flush(30) == "store"
    stored = [frame.source() for frame in lt.open_store(server.store).recording("refused").frames("i")]
    np.testing.assert_array_equal(stored, [image(0, 0), image(0, 2)])
    recording.disconnect()


def test_several_recordings_and_producers_share_a_server(server):
    recordings = [lt.new_recording("flight", f"shared{i % 2}", sink=server.url) for i in range(4)]

    def work(worker):
        for i in range(20):
            recordings[worker].set_time_sequence("i", i)
            recordings[worker].log_image(f"w/{worker}", image(worker, i))
        recordings[worker].disconnect(timeout=30)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        check(server.store, {i: 20, i + 2: 20}, recording=f"shared{i}")


def test_colors_are_baked_with_the_context_whatever_server_takes_the_value(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with Server(tmp_path) as server:
        recording = lt.new_recording("app", "run", sink=server.url)
        recording.log_annotation_context("/", [(1, "car", (255, 0, 0))])
        recording.log_annotation_context("/", [(1, "car", (0, 255, 0))])
        recording.log_segmentation_image("s", ids)
        recording.flush(30)
        server.kill()
        with Server(tmp_path, port=server.port):
            recording.log_segmentation_image("s", ids)  # this server knows only what it is told
            poll(lambda: _flushed(recording))
            recording.disconnect()
    table = rows(tmp_path, "run").select(["kind", "palette_hash"]).to_pylist()
    hashes = [row["palette_hash"] for row in table if row["kind"] == "segmentation"]
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
    assert sum(row["kind"] == "annotation_context" for row in table) == 2
    for frame in lt.open_store(tmp_path).recording("run").frames("s"):
        np.testing.assert_array_equal(frame.colors()[0, 1], [0, 255, 0, 255])


def _flushed(recording):
    try:
        return recording.flush(10) == "store"
    except FlushError:
        return False


@pytest.mark.parametrize("policy", ["drop_newest", "drop_oldest"])
def test_drops_are_counted_warned_about_once_and_recorded_as_gaps(tmp_path, nowhere, policy):
    recording = lt.new_recording(
        "app", "run", sink=f"grpc://127.0.0.1:{nowhere}", queue_bytes=1 << 20, queue_policy=policy
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for i in range(200):  # 1.4 MB: more than the queue and what may be in flight
            recording.log_image("w/0", image(0, i))
    assert [w.category for w in warned] == [LumatileWarning]
    with Server(tmp_path, port=nowhere):
        with pytest.raises(FlushError) as raised:
            poll(lambda: recording.flush(30))
        assert recording.flush(30) == "store"
        recording.disconnect()
    table = rows(tmp_path, "run").select(["kind", "seq", "seq_last"]).to_pylist()
    dropped = [seq for row in table if row["kind"] == "gap" for seq in range(row["seq"], row["seq_last"] + 1)]
    kept = [row["seq"] for row in table if row["kind"] == "image"]
    assert sorted(dropped + kept) == list(range(200))
    assert raised.value.undelivered == len(dropped) > 0
    assert 199 in kept or policy == "drop_newest"


def test_a_flush_says_that_the_service_is_away_and_how_many_values_wait(nowhere):
    recording = lt.new_recording("app", "run", sink=f"grpc://127.0.0.1:{nowhere}")
    for i in range(7):
        recording.log_image("i", image(0, i))
    with pytest.raises(FlushError, match="7 logged values are not durable"):
        recording.flush(0)
    with pytest.raises(FlushError, match=rf"7 .*grpc://127.0.0.1:{nowhere} does not take values"):
        recording.flush()  # three attempts, then it says so
    began = time.monotonic()
    with pytest.raises(FlushError, match="7 logged values"):
        recording.disconnect(timeout=0.2)
    assert time.monotonic() - began < 4


@pytest.mark.alone
def test_the_log_call_does_not_wait_for_a_service_that_is_away(nowhere):
    recording = lt.new_recording("app", "run", sink=f"grpc://127.0.0.1:{nowhere}")
    began = time.monotonic()
    for i in range(50):
        recording.log_image("i", image(0, i))
    assert time.monotonic() - began < 1
    with pytest.raises(FlushError):
        recording.disconnect(timeout=0)


def test_the_end_of_a_process_waits_a_bounded_time_for_a_service(nowhere, tmp_path):
    code = f"""
        import numpy as np, lumatile as lt
        from lumatile.log import processes
        processes.EXIT_WAIT = 1.0
        lt.init("app", sink={f"grpc://127.0.0.1:{nowhere}"!r})
        lt.log_image("i", np.zeros((8, 8), np.uint8))
    """
    began = time.monotonic()
    done = run(code)
    assert done.returncode == 0
    assert "1 values were lost at exit" in done.stderr
    assert time.monotonic() - began < 15


def run(code, *args, timeout=60):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_the_threads_end_with_the_sink(server):
    def cycle():
        recording = lt.new_recording("app", "threads", sink=server.url)
        recording.log_image("i", image(0, 0))
        recording.disconnect(timeout=30)

    cycle()
    before, native = threading.active_count(), psutil.Process().num_threads()
    for _ in range(5):
        cycle()
    assert threading.active_count() <= before
    assert psutil.Process().num_threads() < native + 20  # gRPC's and Arrow's come and go


@pytest.mark.parametrize("moment", ["before the first value", "while values wait", "while values flow"])
def test_a_forked_child_has_a_stream_of_its_own(server, moment):
    name = moment.replace(" ", "-")
    code = f"""
        import os, sys, threading, time
        import numpy as np, lumatile as lt

        recording = lt.new_recording("app", {name!r}, sink=sys.argv[1], max_block=None)
        stop = threading.Event()

        def log():
            i = 0
            while not stop.is_set():
                recording.log_image("parent", np.full((100, 100), i % 256, np.uint8))
                i += 1
                time.sleep(0.001)

        flow = threading.Thread(target=log)
        if {moment!r} == "while values wait":
            recording.log_image("parent", np.zeros((8, 8), np.uint8))
        if {moment!r} == "while values flow":
            flow.start()
        children = []
        for i in range(4):
            pid = os.fork()
            if not pid:
                for _ in range(3):
                    recording.log_image(f"child/{{i}}", np.full((8, 8), i, np.uint8))
                recording.flush(30)
                grandchild = os.fork()
                recording.log_image(f"child/{{i}}" if grandchild else f"grandchild/{{i}}", np.zeros((8, 8), np.uint8))
                recording.flush(30)
                if grandchild:
                    assert os.waitpid(grandchild, 0)[1] == 0
                os._exit(0)
            children.append(pid)
            recording.log_image("between", np.zeros((8, 8), np.uint8))
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        if flow.ident:
            flow.join()
        recording.disconnect(timeout=30)
    """
    done = run(code, server.url)
    assert (done.returncode, done.stderr) == (0, "")
    read = lt.open_store(server.store).recording(name)
    assert [len(read.frames(f"child/{i}")) for i in range(4)] == [4] * 4
    assert [len(read.frames(f"grandchild/{i}")) for i in range(4)] == [1] * 4
    assert len(read.frames("between")) == 4
    keys = stored_keys(server.store, name)
    assert set(keys.values()) == {1}
    assert len({producer for producer, _ in keys}) == 9


def test_workers_that_fork_from_a_logging_process_log_too(server):
    code = """
        import multiprocessing, sys
        import numpy as np, lumatile as lt

        def work(i):
            lt.log_image(f"worker/{i}", np.full((8, 8), i, np.uint8))

        lt.init("app", "workers", sink=sys.argv[1])
        lt.log_image("main", np.zeros((8, 8), np.uint8))
        processes = [multiprocessing.get_context("fork").Process(target=work, args=(i,)) for i in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    """
    done = run(code, server.url)
    assert (done.returncode, done.stderr) == (0, "")
    entities = lt.open_store(server.store).recording("workers").entities()
    assert entities == ["main", "worker/0", "worker/1", "worker/2"]


def test_a_child_forked_while_another_flight_client_is_open_is_told_and_does_not_hang(server):
    code = """
        import os, sys, time
        import numpy as np, lumatile as lt
        from lumatile.delivery import forks as flight_forks
        from pyarrow import flight

        recording = lt.new_recording("app", "broken", sink=sys.argv[1])
        recording.log_image("parent", np.zeros((8, 8), np.uint8))
        recording.flush(30)
        flight_forks.GRPC_SECONDS = 0.5
        other = flight.connect(sys.argv[1])
        other.get_flight_info(flight.FlightDescriptor.for_command(b""))
        for _ in range(2):
            pid = os.fork()
            if not pid:
                recording.log_image("child", np.zeros((8, 8), np.uint8))
                try:
                    recording.flush(30)
                except lt.FlushError as e:
                    print(e, flush=True)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        recording.log_image("parent", np.zeros((8, 8), np.uint8))
        print(recording.flush(30))
        recording.disconnect(timeout=30)
    """
    done = run(code, server.url)
    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    assert len(told) == 2
    assert all("1 logged values are not durable" in line and "a Flight client was open" in line for line in told)
    assert last == "store"


def test_a_child_forked_while_a_thread_imports_what_its_first_sink_needs_logs_too(server):
    """CPython copies its list of hooks before a fork waits: what is registered in the meantime must count too."""
    code = """
        import importlib.abc, os, sys, threading, time
        import numpy as np, lumatile as lt

        importing = threading.Event()

        class SlowFinder(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name == "lumatile.delivery.forks":
                    importing.set()
                    time.sleep(1)  # the fork has begun, and waits

        sys.meta_path.insert(0, SlowFinder())
        recording = lt.new_recording("app", "imports")

        def log():
            recording.connect(sys.argv[1])
            while not stop.is_set():
                recording.log_image("parent", np.zeros((8, 8), np.uint8))
                time.sleep(0.01)

        stop = threading.Event()
        thread = threading.Thread(target=log)
        thread.start()
        assert importing.wait(60)
        assert "lumatile.delivery.forks" not in sys.modules
        pid = os.fork()
        if not pid:
            assert "lumatile.delivery.forks" in sys.modules, "the fork waited for the import"
            recording.log_image("child", np.zeros((8, 8), np.uint8))
            os._exit(recording.flush(30) != "store")
        status = os.waitpid(pid, 0)[1]
        stop.set()
        thread.join()
        recording.disconnect(timeout=30)
        sys.exit(status != 0)
    """
    done = run(code, server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert lt.open_store(server.store).recording("imports").entities() == ["child", "parent"]


class Nonsense(flight.FlightServerBase):
    """A server that says anything."""

    answers = (b"\xff\x00", b"[1]", b'{"durable": [["00", 0, 1e300]]}', b'{"refused": 7}', b"[" * 10_000)

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")
        self.streams = 0

    def get_flight_info(self, context, descriptor):
        return flight.FlightInfo(pa.schema([]), descriptor, [], -1, -1)

    def do_exchange(self, context, descriptor, reader, writer):
        self.streams += 1
        writer.write_metadata(b'{"durable": [["%s", 0, %d]]}' % (b"00" * 16, 2**63))
        writer.write_metadata(self.answers[self.streams % len(self.answers)])


def test_a_server_that_answers_nonsense_is_not_believed():
    with Nonsense() as server:
        recording = lt.new_recording("app", "run", sink=f"grpc://127.0.0.1:{server.port}")
        recording.log_image("i", image(0, 0))
        poll(lambda: server.streams > len(Nonsense.answers))
        with pytest.raises(FlushError, match="1 logged values"):
            recording.flush(0.1)
        assert server.streams < 40, "attempts must be ever rarer"
        with pytest.raises(FlushError):
            recording.disconnect(timeout=0)


def test_an_idle_recording_is_closed_and_opened_again(tmp_path):
    ingest = Ingest(tmp_path, lambda: select_backend("numpy"), idle_seconds=0.1)
    settings = RecordingSettings(application_id="app", recording_id="run")
    before = threading.active_count()
    with ingest.stream(settings) as first:
        assert threading.active_count() > before
        assert ingest.recordings == [first]
    poll(lambda: not ingest.recordings)
    poll(lambda: threading.active_count() <= before)
    with ingest.stream(settings) as second:
        assert second is not first
    ingest.close(10)
    with pytest.raises(lt.LumatileError, match="closed"), ingest.stream(settings):
        pass
