"""Stores in buckets: what is written and read is what a directory would hold, whatever the network does.

Longer than other files: its tests share one server of buckets and the proxy before it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings

import numpy as np
import pytest
from tests.support.s3_server import Proxy, S3Server

import lumatile as lt
from lumatile.errors import CorruptStoreError, FlushError, NotFoundError, SinkError, StoreDeniedError, StoreError
from lumatile.format import tiles_writer
from lumatile.format.point_planes import source_rows
from lumatile.format.tile_batches import index_rows
from lumatile.format.tile_rows import IndexedRows
from lumatile.read.store import open_store
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile.storage import object_client, object_directory, object_tiles
from lumatile.storage.object_directory import ObjectStore
from lumatile.storage.object_tiles import ObjectTiles
from lumatile.write import merge
from lumatile.write.writer import SegmentWriter
from lumatile_kernels import select_backend
from lumatile_service.cli import main
from lumatile_service.ingest.recordings import Ingest

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (600, 700, 3), np.uint8)
SETTINGS = RecordingSettings(application_id="app", recording_id="run")


@pytest.fixture(scope="module")
def server():
    started = S3Server()
    yield started
    started.close()


@pytest.fixture
def environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {"ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(server, environment, monkeypatch):
    """An empty bucket's name; the environment says where it is."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    name = f"bucket-{uuid.uuid4().hex}"
    server.create_bucket(name)
    return name


@pytest.fixture
def store(bucket):
    """The URL of an empty store."""
    return f"s3://{bucket}/some/runs"


@pytest.fixture
def proxy(server, bucket, monkeypatch):
    """Between the client and the bucket."""
    started = Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", started.url)
    yield started
    started.close()


def row(seq, **columns):
    required = {"entity_path": "a", "kind": "image", "log_time": seq, "log_tick": seq, "timeless": False}
    source = {"source": "plane", "source_dtype": "uint8", "source_shape": [len(content(seq))]}
    return required | source | {"producer": b"p" * 16, "seq": seq} | columns


def content(seq, size=5000):
    return np.random.default_rng(seq).integers(0, 256, size, np.uint8)


def write(target, seqs, *, values_per_segment=1, **columns):
    for seq in seqs:
        target.append(row(seq, **columns), source_rows(content(seq)))
        if target.values == values_per_segment:
            target.commit()


def assert_all_there(recording, seqs):
    frames = recording.frames("a")
    assert [frame.key[1] for frame in frames] == list(seqs)
    for seq, frame in zip(seqs, frames, strict=True):
        np.testing.assert_array_equal(frame.source(), content(seq))


def log_everything(store):
    recording = lt.new_recording("app", "run", strict=True)
    recording.save(store, backend="numpy")
    recording.log_image("rgb", PICTURE)
    recording.log_image("float", (PICTURE / 255).astype(np.float32))
    recording.log_image("rgba", RNG.integers(0, 256, (30, 40, 4), np.uint8) * 0 + 7)
    recording.log_image("empty", PICTURE[:0])
    recording.log_depth_image("depth", PICTURE[..., 0].astype(np.uint16) * 9)
    recording.log_annotation_context("/", [(1, "one", (1, 2, 3))])
    recording.log_segmentation_image("ids", PICTURE[..., 1] % 9)
    recording.log_points("cloud", PICTURE[:, :, 0].reshape(-1, 3) / 7.0, labels=["x"] * 140_000)
    recording.log_extension_components("rgb", {"exposure": 0.5})
    recording.log_cleared("rgba")
    recording.flush()
    recording.disconnect()


def test_every_kind_of_value_is_stored_and_read_as_in_a_directory(store, tmp_path, server, bucket, one_segment):
    for each in (store, str(tmp_path)):
        log_everything(each)
    far, near = (open_store(each).recording() for each in (store, tmp_path))
    own = ("log_time", "producer")
    assert far.frames_table().drop_columns(own).equals(near.frames_table().drop_columns(own))
    assert far.entities() == near.entities()
    for path in near.entities():
        for a, b in zip(far.frames(path or "/"), near.frames(path or "/"), strict=True):
            assert (a.kind, a.shape, a.levels) == (b.kind, b.shape, b.levels)
            for level in range(len(b.levels) if b.kind in ("image", "depth", "segmentation") and b.shape[0] else 0):
                assert a.tile(level=level).tobytes() == b.tile(level=level).tobytes()
                a.check_tile(level=level)
                assert a.to_rgba8(level).tobytes() == b.to_rgba8(level).tobytes()
            found, expected = a.source(), b.source()
            if isinstance(expected, np.ndarray):
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                assert found.tobytes() == expected.tobytes()
            else:
                np.testing.assert_equal(found, expected)
    np.testing.assert_array_equal(far.latest_at("cloud").points().positions, near.latest_at("cloud").points().positions)

    (key,) = [key for key in server.keys(bucket) if "/tiles/" in key]
    (path,) = (tmp_path / "run" / "tiles").iterdir()
    assert key.startswith("some/runs/run/tiles/")
    assert path.stat().st_size > object_client.PART_BYTES  # it came in parts
    here, there = verify(tmp_path), verify(store)
    assert there.ok
    assert (there.segments, there.frames, there.tiles, there.garbage) == (1, here.frames, here.tiles, [])
    assert object_client.ObjectClient(store).get(key.removeprefix("some/runs/")) == path.read_bytes()


def test_recordings_are_listed_and_found(store, server, bucket):
    opened = open_store(store)
    assert opened.recordings() == []
    for recording_id in ("b/ä %2E", "a"):
        target = SegmentWriter(store, RecordingSettings(application_id="app", recording_id=recording_id))
        write(target, [0])
        target.close()
    infos = opened.recordings()
    assert [info.recording_id for info in infos] == ["a", "b/ä %2E"]
    assert all(info.segments == 1 and info.nbytes > 5000 for info in infos)
    assert {key.split("/")[2] for key in server.keys(bucket)} == {"a", "b%2F%C3%A4%20%252E"}  # as in a directory
    assert_all_there(opened.recording("b/ä %2E"), [0])
    with pytest.raises(NotFoundError, match="must have one recording"):
        opened.recording()
    with pytest.raises(NotFoundError, match="has no recording 'c'"):
        opened.recording("c")


def test_several_writers_share_a_recording(store):
    targets = [SegmentWriter(store, SETTINGS) for _ in range(2)]
    for seq in range(4):
        for n, target in enumerate(targets):
            write(target, [seq], producer=bytes([n]) * 16, log_time=2 * seq + n)
    for target in targets:
        target.close()
    keys = [frame.key for frame in open_store(store).recording().frames("a")]
    assert keys == [(bytes([n]) * 16, seq) for seq in range(4) for n in range(2)]


def test_refresh_and_follow_see_what_is_committed(store):
    target = SegmentWriter(store, SETTINGS)
    with pytest.raises(NotFoundError):
        open_store(store).recording("run")  # there are no empty folders in a bucket
    write(target, [0])
    reader = open_store(store).recording("run")
    followed = []
    follower = threading.Thread(target=lambda: followed.extend(reader.follow(poll=0.02, timeout=1.0)))
    follower.start()
    write(target, range(1, 20), values_per_segment=2)
    target.close()
    follower.join()
    assert [frame.key[1] for frame in followed] == list(range(1, 20))
    assert reader.refresh() == 0
    assert_all_there(reader, range(20))


def test_a_watcher_lists_what_is_new_and_all_of_it_once_a_minute(store, proxy, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(object_directory.time, "monotonic", lambda: now[0])
    target, early = SegmentWriter(store, SETTINGS), SegmentWriter(store, SETTINGS)
    monkeypatch.setattr(object_directory, "OVERLAP_NS", 0)
    early.append(row(0), [])
    write(target, [1])
    reader = open_store(store).recording("run")
    proxy.seen.clear()
    write(target, [2])
    assert reader.refresh() == 1
    early.commit()  # an older name: as if its commit had taken minutes
    assert reader.refresh() == 0
    asked = [path for method, path, *_ in proxy.seen if method == "GET" and "list-type=2" in path]
    assert len(asked) == 2
    assert all("start-after=" in path for path in asked)
    now[0] += object_directory.LISTING_SECONDS + 1
    assert reader.refresh() == 1
    assert "start-after=" not in [path for _, path, *_ in proxy.seen if "list-type=2" in path][-1]
    target.close()
    early.close()


def test_small_segments_are_merged_and_those_replaced_are_deleted(store, server, bucket, monkeypatch):
    monkeypatch.setattr(merge, "FAN_IN", 4)
    target = SegmentWriter(store, SETTINGS)
    write(target, range(3))
    reader = open_store(store).recording("run")
    frames = reader.frames("a")
    np.testing.assert_array_equal(frames[0].source(), content(0))
    monkeypatch.setattr(merge, "KEEP_SECONDS", -1.0)
    write(target, range(3, 18))
    target.close()
    assert len(server.keys(bucket)) == 2 * (1 + 2)  # sixteen, of four times four, and the last two
    for seq in range(3):  # where they were is gone: one was open already
        np.testing.assert_array_equal(frames[seq].source(), content(seq))
    for recording in (reader, open_store(store).recording()):
        recording.refresh()
        assert_all_there(recording, range(18))
    report = verify(store)
    assert report.ok
    assert (report.segments, report.frames, report.duplicates, report.garbage) == (3, 18, 0, [])
    SegmentWriter(store, SETTINGS).close()
    assert_all_there(open_store(store).recording(), range(18))


KILLED = """
import sys, time
import numpy as np
from lumatile.storage.object_directory import ObjectDirectory
from lumatile.storage.object_file import ObjectFile
from lumatile.format import tiles_writer
from lumatile.format.point_planes import source_rows
from lumatile.format.tile_rows import IndexedRows
from lumatile.format.tile_batches import index_rows
from lumatile.settings import RecordingSettings
from lumatile.write.writer import SegmentWriter

def stop(*_):
    print("now", flush=True)
    time.sleep(100)

setattr(*{"upload": (ObjectFile, "finish", stop), "tiles": (ObjectDirectory, "commit", stop)}[sys.argv[2]])
target = SegmentWriter(sys.argv[1], RecordingSettings(application_id="app", recording_id="run"))
row = {"entity_path": "a", "kind": "image", "log_time": 1, "log_tick": 1, "producer": b"q" * 16, "seq": 0}
for seq in range(3):
    target.append(row | {"seq": seq}, source_rows(np.zeros(12 << 20, np.uint8)))
target.commit()
"""


@pytest.mark.parametrize("when", ["upload", "tiles"])
def test_a_killed_writer_leaves_garbage_only(store, server, bucket, when):
    target = SegmentWriter(store, SETTINGS)
    write(target, [0])
    command = [sys.executable, "-c", KILLED, store, when]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "now\n"
        time.sleep(0.3)  # parts are under way
        process.send_signal(signal.SIGKILL)
    write(target, [1])
    target.close()
    assert_all_there(open_store(store).recording(), range(2))
    report = verify(store)
    assert report.ok
    if when == "upload":
        assert report.garbage == []  # no object is there
        (key,) = server.uploads(bucket)
    else:
        (url,) = report.garbage
        key = url.removeprefix(f"s3://{bucket}/")
        assert key in server.keys(bucket)
    assert key.startswith("some/runs/run/tiles/")


def once(method, part, said):
    """A rule for the first request of a kind."""
    left = [said]
    return lambda m, path: left.pop() if left and m == method and part in path else None


def test_a_commit_whose_answer_is_lost_is_a_commit(store, proxy, server, bucket):
    target = SegmentWriter(store, SETTINGS)
    proxy.rules.append(once("PUT", "/frames/", "lose"))
    write(target, [0])
    target.close()
    asked = [status for method, path, status, _ in proxy.seen if method == "PUT" and "/frames/" in path]
    assert asked == [0, 412]  # lost, then: it is there
    assert len(server.keys(bucket)) == 2
    assert_all_there(open_store(store).recording(), [0])
    assert verify(store).garbage == []


def test_a_commit_over_other_bytes_is_an_error(store, server, bucket):
    target = SegmentWriter(store, SETTINGS)
    write(target, [0])
    target.close()
    storage = ObjectStore(store).recording("run")
    (file,) = storage.committed()
    import pyarrow as pa

    storage.commit(file, pa.py_buffer(object_client.ObjectClient(store).get(f"run/frames/{file.name}")))
    with pytest.raises(CorruptStoreError, match="exists with other bytes"):
        storage.commit(file, pa.py_buffer(b"other"))
    storage.discard(file.segment)  # it is somebody's: it stays
    assert_all_there(open_store(store).recording(), [0])


def test_a_commit_without_an_answer_keeps_its_tiles(store, proxy, monkeypatch):
    """It may be done after all: then it is whole, and the value, written again, is there twice and shown once."""
    monkeypatch.setattr(object_client, "RETRIES", 0)
    monkeypatch.setattr(object_directory, "COMMITS", 1)
    target = SegmentWriter(store, SETTINGS)
    proxy.rules.append(once("PUT", "/frames/", "lose"))
    target.append(row(0), source_rows(content(0)))
    with pytest.raises(StoreError):
        target.commit()
    write(target, [0])
    target.close()
    assert_all_there(open_store(store).recording(), [0])
    report = verify(store)
    assert report.ok
    assert (report.duplicates, report.garbage) == (1, [])


def test_servers_that_fail_and_dawdle_are_asked_again(store, proxy):
    turns = iter(range(10**6))
    proxy.rules.append(lambda *_: (503, 0.05, None, 500, None, None)[next(turns) % 6])
    target = SegmentWriter(store, SETTINGS)
    write(target, range(6))
    target.close()
    reader = open_store(store).recording()
    assert_all_there(reader, range(6))
    assert verify(store).ok
    assert {status for _, _, status, _ in proxy.seen} >= {200, 500, 503}


def test_an_answer_that_comes_too_late_is_not_waited_for(store, proxy, server, bucket, monkeypatch):
    monkeypatch.setattr(object_client, "REQUEST_SECONDS", 0.5)
    target = SegmentWriter(store, SETTINGS)
    proxy.rules += [once("PUT", "/frames/", 2.0), once("GET", "/frames/", 2.0)]
    start = time.monotonic()
    write(target, [0])
    target.close()
    assert_all_there(open_store(store).recording(), [0])
    assert time.monotonic() - start < 5
    time.sleep(2.0)  # the late ones arrive now
    assert len(server.keys(bucket)) == 2
    report = verify(store)
    assert (report.ok, report.frames, report.garbage) == (True, 1, [])


def test_while_a_store_is_away_values_wait_and_are_stored_once(store, proxy, monkeypatch):
    monkeypatch.setattr(object_client, "RETRIES", 0)
    recording = lt.new_recording("app", "run", strict=True)
    recording.save(store, backend="numpy")
    proxy.rules.append(lambda method, _: 503 if method in ("PUT", "POST") else None)
    for value in range(3):
        recording.log_image("a", np.full((4, 4), value, np.uint8))
    with pytest.raises(FlushError, match="3 logged values are not durable"):
        recording.flush()
    proxy.rules.clear()
    assert recording.flush(timeout=30) == "store"
    recording.disconnect()
    frames = open_store(store).recording().frames("a")
    assert [int(frame.source()[0, 0]) for frame in frames] == [0, 1, 2]
    report = verify(store)
    assert report.ok
    assert report.duplicates == 0


@pytest.mark.parametrize("use", ["write", "read"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("bucket", r"bucket does not exist \(NoSuchBucket\)"),
        ("credentials", "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("permission", r"access denied: Access Denied \(AccessDenied\)"),
        ("server", "error sending request"),
        ("package", r"needs the package obstore: pip install 'lumatile\[s3\]'"),
    ],
)
def test_what_is_missing_is_said_once_and_at_once(store, proxy, monkeypatch, use, wrong, says):
    monkeypatch.setattr(object_client, "RETRIES", 1)
    if wrong == "bucket":
        store = "s3://no-such-bucket/runs"
    elif wrong == "credentials":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9/169.254.169.254")  # nobody answers
    elif wrong == "permission":
        proxy.rules.append(lambda *_: 403)
    elif wrong == "server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    else:
        monkeypatch.setitem(sys.modules, "obstore", None)
    start = time.monotonic()
    with pytest.raises(SinkError if use == "write" else StoreError, match=says) as raised:
        SegmentWriter(store, SETTINGS) if use == "write" else open_store(store)
    assert time.monotonic() - start < 5
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 500
    assert "s3://" in message
    if use == "read" and wrong == "permission":
        assert isinstance(raised.value, StoreDeniedError)


def test_a_child_of_a_process_that_used_a_bucket_says_that_it_cannot(store):
    open_store(store)
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads
        child = os.fork()
    if child == 0:
        try:
            open_store(store)
        except BaseException as e:  # noqa: BLE001
            os.write(sender, str(e).encode())
        os._exit(0)
    os.close(sender)
    assert "forked" in os.read(receiver, 1000).decode()
    os.waitpid(child, 0)
    os.close(receiver)


def test_reading_a_tile_fetches_little_more_than_the_tile(store, proxy, one_segment):
    recording = lt.new_recording("app", "run", strict=True)
    recording.save(store, backend="numpy")
    picture = np.zeros((2160, 3840, 3), np.uint8)
    for value in range(2):
        recording.log_image("a", picture + value)
    recording.flush()
    recording.disconnect()
    whole = open_store(store).recordings()[0].nbytes
    assert whole > 2 * 88_000_000
    reader = open_store(store).recording()
    proxy.seen.clear()
    frame = reader.frames("a")[1]
    tile = frame.tile(x=3, y=2)
    assert tile.shape == (256, 256, 4)
    first = sum(size for _, path, _, size in proxy.seen if "/tiles/" in path)
    assert tile.nbytes < first < tile.nbytes + (1 << 20)
    proxy.seen.clear()
    frame.tile(x=4, y=2)
    ((method, _, status, size),) = proxy.seen  # one ranged GET of its bytes
    assert (method, status, size) == ("GET", 206, tile.nbytes)
    proxy.seen.clear()
    assert (frame.image() == frame.tile()[0, 0]).all()
    assert len(proxy.seen) < 2160 // 256 * 6


def test_a_frame_among_thousands_is_found_in_a_few_steps(store, proxy, monkeypatch):
    monkeypatch.setattr(object_tiles, "TAIL_BYTES", 1000)
    monkeypatch.setattr(object_client, "COALESCE_BYTES", 0)
    target = SegmentWriter(store, SETTINGS)
    rng = np.random.default_rng(0)
    parts = rng.integers(0, 4, 1500)
    for seq, count in enumerate(parts.tolist()):
        pieces = [next(iter(source_rows(content(seq * 10 + n, 20)))) for n in range(count)]
        for n, piece in enumerate(pieces):
            object.__setattr__(piece, "y", np.array([n], np.int32))
        target.append(row(seq, source_shape=[20 * count]), pieces)
    target.close()
    frames = open_store(store).recording().frames("a")
    for seq in [0, 1499, *rng.integers(0, 1500, 8).tolist()]:
        proxy.seen.clear()
        expected = [content(seq * 10 + n, 20) for n in range(parts[seq])]
        np.testing.assert_array_equal(frames[seq].source(), np.concatenate([np.zeros(0, np.uint8), *expected]))
        assert len(proxy.seen) < 200


class Bytes:
    """One object, without a bucket."""

    url = "memory://"

    def __init__(self, content):
        self.content = content

    def tail(self, key, nbytes):
        return self.content[-nbytes:], len(self.content)

    def ranges(self, key, ranges):
        return [memoryview(self.content)[a:b] for a, b in ranges]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tail", [1000, 1 << 20])
def test_a_tiles_object_that_lies_is_an_error_and_no_crash(tmp_path, monkeypatch, tail, shared):
    monkeypatch.setattr(object_tiles, "TAIL_BYTES", tail)
    monkeypatch.setattr(tiles_writer, "SHARED_ROWS", 3)
    target = SegmentWriter(tmp_path, SETTINGS)
    for seq in range(40):
        if shared:
            target.append_small([row(seq)], indexed(source_rows(content(seq, 300))))
        else:
            target.append(row(seq), source_rows(content(seq, 300)))
    target.close()
    (path,) = (tmp_path / "run" / "tiles").iterdir()
    whole = path.read_bytes()

    def read(stored):
        tiles = ObjectTiles(Bytes(stored), "key")
        for frame in (0, 17, 39):
            for _, where in tiles.rows_of_frame(frame):
                tiles.payloads(where)
        return [tiles.batch(i) for i in range(len(tiles))]

    assert [frame for rows, _ in read(whole) for frame in rows.frames()] == list(range(40))
    assert [shares for _, shares in read(whole)] == [shared] * (14 if shared else 40)
    lies = 0
    for where in range(0, len(whole) - 1, len(whole) // (100 if shared else 400)):
        for size in (1, 8):
            try:
                read(whole[:where] + b"\xff" * size + whole[where + size :])
            except CorruptStoreError:
                lies += 1
    assert lies > 20
    for cut in (0, 5, 1000, len(whole) // 2, len(whole) - 1):
        with pytest.raises(CorruptStoreError):
            read(whole[:cut])


def indexed(parts):
    (rows,) = parts
    index = index_rows(rows)
    return IndexedRows(frame=np.zeros(len(index), np.int64), index=index, offsets=rows.offsets, payload=rows.payload)


def test_a_service_stores_each_value_once_in_a_bucket(store, name, values):
    log = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True)
    for value in range(3):
        log.log_image("a", np.full((4, 4), value, np.uint8))
    log.disconnect()
    acknowledged = []
    for _ in range(2):  # the second has only the store to know from
        ingest = Ingest(store, lambda: select_backend("numpy"))
        with ingest.stream(SETTINGS) as stream:
            for value in values:
                stream.put(value, lambda _, seq: acknowledged.append(seq))
            stream.flush(30)
        ingest.close(30)
    assert acknowledged == [0, 1, 2] * 2
    report = verify(store)
    assert (report.ok, report.frames, report.duplicates) == (True, 3, 0)


def test_the_command_line_reads_buckets(store, tmp_path, capsys, monkeypatch):
    log_everything(store)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lumatile", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert not exit_.value.code
        return json.loads(capsys.readouterr().out)

    (listed,) = run("ls", store, "--json")["recordings"]
    assert (listed["recording_id"], listed["values"]) == ("run", 10)
    planes = run("info", store, "run", "rgb", "--json")["planes"]
    assert [(plane["plane"], plane["tiles"]) for plane in planes] == [("pixels", 14)]
    assert planes[0]["bytes"] > PICTURE.nbytes
    assert run("verify", store, "--json")["ok"]
    run("render", store, "rgb", "-o", str(tmp_path / "rgb.png"), "--json")
    from PIL import Image

    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "rgb.png").convert("RGB")), PICTURE)
