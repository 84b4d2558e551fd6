"""A service whose processes die, freeze, are cut off, run out of disk, or are lied to."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import flight

import lumatile as lt
from lumatile.acknowledgements import SILENCE_SECONDS, Acknowledgement
from lumatile.errors import FlushError
from lumatile.memory import VALUES
from lumatile.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.verify import verify
from lumatile.wire import encode

from .flight_service import LOGGER, Child, Server, check, fresh, image, logger, poll, quiet, stored_keys


def test_kill_9_of_the_sdk_process(tmp_path):
    rng = np.random.default_rng(0)
    acknowledged = {}
    with Server(tmp_path) as server:
        for worker in range(6):
            with logger(server.url, worker) as process:
                process.line()
                time.sleep(rng.uniform(0, 0.1))  # any moment will do
                process.kill()
                acknowledged[worker] = process.said()
        poll(lambda: quiet(tmp_path))
        check(tmp_path, acknowledged, url=server.url)


def test_kill_9_of_the_server_and_a_restart(tmp_path):
    rng = np.random.default_rng(1)
    port = 0
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(tmp_path))
        port = server.port
        workers = [stack.enter_context(logger(server.url, worker)) for worker in range(2)]
        for _ in range(4):
            said = [process.said() for process in workers]
            poll(lambda said=said: all(p.said() > n for p, n in zip(workers, said, strict=True)))
            time.sleep(rng.uniform(0, 0.1))
            server.kill()
            server = stack.enter_context(Server(tmp_path, port=port))
        said = [process.said() for process in workers]
        poll(lambda: all(p.said() > n for p, n in zip(workers, said, strict=True)))
        acknowledged = {}
        for worker, process in enumerate(workers):
            process.kill()
            acknowledged[worker] = process.said()
        poll(lambda: quiet(tmp_path))
        check(tmp_path, acknowledged, url=server.url)


def test_a_server_that_freezes_and_goes_on(tmp_path):
    with Server(tmp_path) as server, logger(server.url) as process:
        process.line(2)
        server.freeze()
        began = time.monotonic()
        process.says("does not take values")
        assert time.monotonic() - began < SILENCE_SECONDS + 1, "a dead link is noticed by its silence"
        poll(lambda: time.monotonic() > began + 5)
        server.thaw()
        said = process.said()
        poll(lambda: process.said() > said + 20)
        process.kill()
        poll(lambda: quiet(tmp_path))
        check(tmp_path, {0: process.said()}, url=server.url)


ENDS = """
import sys
import numpy as np, lumatile as lt
from lumatile import processes
processes.EXIT_WAIT = 2.0
lt.init("flight", "run", sink=sys.argv[1])
lt.set_time_sequence("i", 0)
lt.log_image("w/0", np.random.default_rng([0, 0]).integers(0, 256, (40, 60, 3), np.uint8))
lt.flush(30)
print(1, flush=True)
while not __import__("os").path.exists(sys.argv[2]):
    __import__("time").sleep(0.01)
lt.set_time_sequence("i", 1)
lt.log_image("w/0", np.random.default_rng([0, 1]).integers(0, 256, (40, 60, 3), np.uint8))
"""


def test_a_process_ends_while_its_service_hangs(tmp_path):
    go, store = tmp_path / "go", tmp_path / "store"
    with Server(store) as server, Child([ENDS, server.url, go]) as child:
        child.line()
        server.freeze()
        began = time.monotonic()
        go.touch()
        child.end(30)
        assert time.monotonic() - began < 12
        assert child.process.returncode == 0
        server.thaw()
        poll(lambda: quiet(store))  # what was on its way may be stored yet
        check(store, {0: 1}, url=server.url)


class Network:
    """Two network namespaces with a link between them."""

    def __init__(self):
        self.name = f"lt{os.getpid() % 10000}"
        self.namespaces = [f"{self.name}s", f"{self.name}c"]
        self.addresses = ["10.231.77.1", "10.231.77.2"]
        self.devices = [f"{self.name}v0", f"{self.name}v1"]

    def ip(self, *arguments):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PermissionError(done.stderr.strip())

    def make(self):
        for namespace in self.namespaces:
            self.ip("netns", "add", namespace)
        self.ip("link", "add", self.devices[0], "type", "veth", "peer", "name", self.devices[1])
        for namespace, device, address in zip(self.namespaces, self.devices, self.addresses, strict=True):
            self.ip("link", "set", device, "netns", namespace)
            self.ip("-n", namespace, "addr", "add", f"{address}/24", "dev", device)
            self.ip("-n", namespace, "link", "set", device, "up")
            self.ip("-n", namespace, "link", "set", "lo", "up")

    def clean(self):
        for namespace in self.namespaces:
            with contextlib.suppress(PermissionError):
                self.ip("netns", "del", namespace)
        with contextlib.suppress(PermissionError):
            self.ip("link", "del", self.devices[0])

    def inside(self, end):
        """What a command begins with that runs at one end: 0, the server's, or 1."""
        return ["ip", "netns", "exec", self.namespaces[end]]

    def cut(self):
        self.ip("-n", self.namespaces[0], "link", "set", self.devices[0], "down")

    def heal(self):
        self.ip("-n", self.namespaces[0], "link", "set", self.devices[0], "up")


@pytest.fixture
def network():
    """A network of the test's own."""
    network = Network()
    try:
        network.make()
    except (PermissionError, FileNotFoundError) as e:
        network.clean()
        pytest.skip(f"no network namespaces here: {e}")
    yield network
    network.clean()


def test_the_network_is_cut_and_heals(tmp_path, network):
    with Server(tmp_path, host=network.addresses[0], prefix=network.inside(0)) as server:
        with logger(server.url, prefix=network.inside(1)) as process:
            process.line(2)
            network.cut()
            began = time.monotonic()
            process.says("does not take values")
            assert time.monotonic() - began < SILENCE_SECONDS + 1
            poll(lambda: time.monotonic() > began + 3)
            network.heal()
            said = process.said()
            poll(lambda: process.said() > said + 20)
            process.kill()
        acknowledged = process.said()
        with Child([LOGGER, server.url, "run", 1, 10], prefix=network.inside(1)) as process:
            process.end()  # a fresh value flows
            assert process.said() == 10
        poll(lambda: quiet(tmp_path))
        check(tmp_path, {0: acknowledged, 1: 10})


CUTS = """
import faulthandler, random, sys, time
import numpy as np, lumatile as lt
from lumatile.flight_connection import FlightConnection
from lumatile.memory import VALUES
from lumatile.settings import RecordingSettings

faulthandler.enable()
url, count = sys.argv[1], int(sys.argv[2])
recording = lt.new_recording("flight", "run", sink="memory://values")
for i in range(4):
    recording.set_time_sequence("i", i)
    recording.log_image("w/0", np.random.default_rng([0, i]).integers(0, 256, (40, 60, 3), np.uint8))
recording.flush()
settings = RecordingSettings(application_id="flight", recording_id="run")
for _ in range(count):
    link = FlightConnection(lambda: url, settings, lambda message: None)
    end = time.monotonic() + random.random() * random.choice([0.004, 0.02, 0.1])
    while time.monotonic() < end:
        link.send(VALUES["values"])
        link.flush()
        time.sleep(0.001)
    link.finish() if random.random() < 0.3 else link.cut()
print("alive", flush=True)
"""


def test_links_that_end_at_any_moment_abort_no_process(tmp_path):
    with Server(tmp_path) as server, Child([CUTS, server.url, 150]) as process:
        process.end()
        assert process.lines == ["alive"], process.state()
        fresh(tmp_path, server.url)


RACE = """
import os, sys, time
import numpy as np
import lumatile as lt
from lumatile import recording
from lumatile.flight_sink import FlightSink

servers, go = sys.argv[1:3], sys.argv[3]


def addresses():  # the first one once, then the other
    return [servers.pop(0)] if len(servers) > 1 else servers


recording.open_sink = lambda url, settings: FlightSink(url, settings, addresses=addresses)
rec = lt.new_recording("flight", "run", sink="grpc://anywhere")
for i in range(20):
    rec.set_time_sequence("i", i)
    rec.log_image("w/0", np.random.default_rng([0, i]).integers(0, 256, (40, 60, 3), np.uint8))
print("logged", flush=True)
while not os.path.exists(go):
    time.sleep(0.01)
rec.flush(60)
print(20, flush=True)
"""


def test_two_servers_commit_the_same_values_and_a_reader_sees_each_once(tmp_path, network):
    for attempt in range(5):  # the first one commits by itself after half a second: the cut may come too late
        store, go = tmp_path / str(attempt), tmp_path / f"go{attempt}"
        with (
            Server(store, host=network.addresses[0], prefix=network.inside(0)) as first,
            Server(store, host=network.addresses[1], prefix=network.inside(1)) as second,
            Child([RACE, first.url, second.url, go], prefix=network.inside(1)) as process,
        ):
            process.line()
            poll(lambda store=store: any((store / "run").rglob("*.arrow")))  # the first one has begun a segment
            first.freeze()
            network.cut()  # from the client
            go.touch()
            process.end()
            assert process.lines[-1] == "20"
            first.thaw()  # not from the store
            poll(lambda store=store: quiet(store))
        network.heal()
        keys = stored_keys(store)
        pairs = sum(keys.values()) - len(keys)
        assert verify(store).duplicates == pairs
        check(store, {0: 20}, races=pairs)
        if pairs:
            return
    pytest.fail("the race did not happen")


class Hand:
    """A client by hand: it sends what it likes."""

    def __init__(self, url, command=None, recording="run"):
        settings = RecordingSettings(application_id="flight", recording_id=recording)
        command = json.dumps({"settings": asdict(settings)}).encode() if command is None else command
        self.client = flight.connect(url)
        self.writer, self.reader = self.client.do_exchange(flight.FlightDescriptor.for_command(command))

    def send(self, batches, schema=LOG):
        self.writer.begin(schema)
        for batch in batches:
            self.writer.write_batch(batch)

    def answers(self):
        """All messages until the end of the stream."""
        return [Acknowledgement.decode(chunk.app_metadata.to_pybytes()) for chunk in self.reader]

    def durable(self, count):
        """Wait until so many values are."""
        keys = set()
        for chunk in self.reader:
            for producer, first, last in Acknowledgement.decode(chunk.app_metadata.to_pybytes()).durable:
                keys.update((producer, seq) for seq in range(first, last + 1))
            if len(keys) >= count:
                return keys
        raise AssertionError(f"{len(keys)} of {count} are durable")

    def end(self):
        """Nothing more comes; give what is answered."""
        self.writer.done_writing()
        return self.answers()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.cancel()
        with contextlib.suppress(Exception):
            self.writer.close()
        self.client.close()


def logged(count, log=None):
    """Values as a recording makes them: images that the oracle knows, or what `log` logs."""
    name = f"by hand {time.monotonic_ns()}"
    recording = lt.new_recording("flight", "run", sink=f"memory://{name}")
    for i in range(count):
        recording.set_time_sequence("i", i)
        recording.log_image("w/0", image(0, i))
    if log is not None:
        log(recording)
    recording.disconnect()
    return list(VALUES.pop(name))


@pytest.fixture(autouse=True)
def _without_a_spool(monkeypatch):
    """What a spool does is tested elsewhere."""
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A server that many tests have to do with; `store` is its store."""
    store = tmp_path_factory.mktemp("shared")
    with Server(store) as server:
        server.store = store
        yield server


def test_values_that_are_sent_again_and_in_any_order_are_stored_once(tmp_path):
    values = logged(40)
    keys = {(value.producer, value.seq) for value in values}
    order = np.random.default_rng(0)
    with Server(tmp_path) as server:
        with Hand(server.url) as one, Hand(server.url) as other:  # at the same time
            one.send(encode(values[:30]))
            other.send(encode([values[i] for i in order.permutation(40)]))
            assert one.durable(30) <= keys
            assert other.durable(40) == keys
        with Hand(server.url) as again:
            again.send(encode(values[::-1] + values))
            assert again.durable(40) == keys
        server.kill()
        with Server(tmp_path, port=server.port) as restarted, Hand(restarted.url) as again:
            again.send(encode(values))
            assert again.durable(40) == keys
        check(tmp_path, {0: 40})
        assert set(stored_keys(tmp_path)) == keys


def test_a_value_that_ends_in_the_middle_is_not_stored(shared):
    large = logged(0, lambda recording: recording.log_image("large", np.zeros((2000, 4000, 3), np.uint8)))
    batches = list(encode(large))
    assert len(batches) > 1
    with Hand(shared.url, recording="truncated") as client:
        client.send([*encode(logged(1)), *batches[:1]])
        client.durable(1)
    with Hand(shared.url, recording="truncated") as client:
        client.send(batches[1:])  # the beginning is missing
        with pytest.raises(flight.FlightServerError, match="must be part 0"):
            client.answers()
    assert lt.open_store(shared.store).recording("truncated").entities() == ["w/0"]
    with Hand(shared.url, recording="truncated") as client:
        client.send(batches)
        client.durable(1)
    assert lt.open_store(shared.store).recording("truncated").entities() == ["large", "w/0"]


def changed(**columns):
    """A batch of one value, with other columns."""
    batch = next(encode(logged(1)))
    arrays = [pa.array([columns[f.name]], f.type) if f.name in columns else batch[f.name] for f in LOG]
    return pa.record_batch(arrays, schema=LOG)


def with_offsets(*offsets):
    """A batch whose payload column has these offsets; they are changed when Arrow does not look any more."""
    values = pa.Table.from_batches([changed()] * (len(offsets) - 1)).combine_chunks().to_batches()[0]
    memory = np.linspace(0, 60, len(offsets)).astype(np.int64)
    buffers = [None, pa.py_buffer(memory), pa.py_buffer(bytes(64))]
    payload = pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
    batch = pa.RecordBatch.from_arrays([payload, *values.columns[1:]], schema=LOG)
    memory[:] = offsets
    return batch


def not_unicode():
    batch = changed()
    buffers = [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe" + bytes(62))]
    value = pa.Array.from_buffers(pa.string(), 1, buffers)
    return pa.RecordBatch.from_arrays([*batch.columns[:-1], value], schema=LOG)


def wide(columns):
    return pa.schema([pa.field(f"c{i}", pa.int8()) for i in range(columns)])


HOSTILE = {
    "no settings": ({"command": b""}, None, "must be a recording's settings"),
    "settings of another kind": ({"command": b"[]"}, None, "must be a recording's settings"),
    "deep JSON": ({"command": b'{"settings":' + b"[" * 30_000}, None, "must be a recording's settings"),
    "a large descriptor": ({"command": b"x" * 100_000}, None, "in at most 65536 bytes"),
    "unknown settings": ({"command": b'{"settings": {"color": 1}}'}, None, "must be a recording's settings"),
    "bad settings": (
        {"command": b'{"settings": {"application_id": "a", "recording_id": "b", "tile_format": "x"}}'},
        None,
        "tile_format must be one of",
    ),
    "a recording with a long name": ({"recording": "../" * 100}, None, "recording_id must take"),
    "another schema": ({}, (pa.schema([("a", pa.int8())]), []), "the columns must be payload, producer"),
    "100,000 columns": ({}, (wide(100_000), []), "the columns must be payload, producer"),
    "offsets that go back": ({}, (LOG, [with_offsets(0, 50, 30)]), "must be valid"),
    "offsets beyond the end": ({}, (LOG, [with_offsets(0, 2**40)]), "must be valid"),
    "offsets below the beginning": ({}, (LOG, [with_offsets(0, -(2**40), 60)]), "must be valid"),
    "strings that are none": ({}, (LOG, [not_unicode()]), "must be valid"),
    "a huge size": ({}, (LOG, [changed(size=2**60)]), "must be part 0"),
    "a negative size": ({}, (LOG, [changed(size=-1)]), "must not have -1 bytes"),
    "another producer": ({}, (LOG, [changed(producer=b"short")]), "a producer of 16 bytes"),
    "parts without a beginning": ({}, (LOG, [changed(part=3, parts=9)]), "must be part 0"),
    "many rows": ({}, (LOG, [pa.Table.from_batches([changed()] * 5000).combine_chunks().to_batches()[0]]), "4096 rows"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_message_ends_its_stream_clearly_and_disturbs_nobody(shared, what):
    arguments, sent, message = HOSTILE[what]
    good = logged(2)
    with Hand(shared.url, recording="good") as other:
        other.writer.begin(LOG)
        other.writer.write_batch(next(encode(good[:1])))
        with Hand(shared.url, **{"recording": "hostile", **arguments}) as client:
            with contextlib.suppress(flight.FlightError, pa.ArrowException):
                schema, batches = sent or (LOG, [])
                client.send(batches, schema)
                client.writer.done_writing()
            with pytest.raises(flight.FlightError, match=message) as raised:
                client.answers()
        assert "Traceback" not in str(raised.value)
        assert 'File "' not in str(raised.value)
        if message:
            assert "(error " in str(raised.value)
        other.writer.write_batch(next(encode(good[1:])))
        other.durable(2)
    assert shared.process.poll() is None


@pytest.mark.parametrize(
    "value", ["[" * 100_000, '{"a": ' * 50_000, "null", '{"kind": "image"}', '{"kind": 1e999, "entity_path": []}']
)
def test_a_value_that_is_none_is_refused_and_those_beside_it_are_stored(shared, value):
    with Hand(shared.url, recording="refused") as client:
        values = logged(2)
        client.send([next(encode(values[:1])), changed(value=value), next(encode(values[1:]))])
        answers = client.end()
    refused = [each for answer in answers for each in answer.refused]
    assert len(refused) == 1
    assert "Traceback" not in refused[0].reason
    assert sum(last - first + 1 for answer in answers for _, first, last in answer.durable) == 2


def test_bytes_that_are_not_grpc_disturb_nobody(shared):
    for content in (
        os.urandom(100_000),
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
    ):
        with socket.create_connection(("127.0.0.1", shared.port)) as connection, contextlib.suppress(OSError):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
    fresh(shared.store, shared.url, "after garbage")


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


def test_a_recording_whose_writer_dies_is_opened_again(tmp_path, monkeypatch):
    from lumatile.writer import SegmentWriter
    from lumatile_kernels import select_backend
    from lumatile_service.flight_server import IngestServer
    from lumatile_service.ingest import Ingest

    append, fails = SegmentWriter.append, threading.Event()

    def dies(self, row, tiles):
        if fails.is_set():
            fails.clear()
            raise MemoryError
        append(self, row, tiles)

    monkeypatch.setattr(SegmentWriter, "append", dies)
    ingest = Ingest(tmp_path, lambda: select_backend("numpy"))
    with IngestServer("grpc://127.0.0.1:0", ingest) as server:
        recording = lt.new_recording("flight", "run", sink=f"grpc://127.0.0.1:{server.port}")
        for i in range(30):
            if i == 15:
                fails.set()
            recording.set_time_sequence("i", i)
            recording.log_image("w/0", image(0, i))
            assert i % 5 or recording.flush(30) == "store"
        assert recording.flush(30) == "store"
        assert not fails.is_set()
        recording.disconnect(timeout=10)
        check(tmp_path, {0: 30})
        ingest.close(10)


def test_a_server_that_is_drained_ends_its_streams_and_loses_nothing(tmp_path):
    from lumatile_kernels import select_backend
    from lumatile_service.flight_server import IngestServer
    from lumatile_service.ingest import Ingest

    ingest = Ingest(tmp_path, lambda: select_backend("numpy"))
    with Server(tmp_path) as other, IngestServer("grpc://127.0.0.1:0", ingest) as server:
        with Child([RACE, f"grpc://127.0.0.1:{server.port}", other.url, tmp_path / "run"]) as process:
            poll(lambda: ingest.recordings and ingest.recordings[0].pending)
            began = time.monotonic()
            server.drain(10)
            assert time.monotonic() - began < 5
            assert process.end()[-1] == "20"
        ingest.close(10)
        check(tmp_path, {0: 20}, url=other.url)
