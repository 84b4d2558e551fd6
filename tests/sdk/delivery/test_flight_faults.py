"""A service whose processes die, freeze, are cut off, run out of disk, or are lied to.

Longer than other files: its tests share the network that is cut.
"""

import contextlib
import os
import subprocess
import threading
import time

import numpy as np
import pytest
from tests.support.flight_service import LOGGER, Child, Server, check, fresh, image, logger, poll, quiet, stored_keys

import lumatile as lt
from lumatile.read.verify import verify
from lumatile.wire.acknowledgements import SILENCE_SECONDS


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


@pytest.mark.alone
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
from lumatile.log import processes
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


@pytest.mark.alone
def test_a_network_cut_and_heal(tmp_path, network):
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
from lumatile.delivery.connection import FlightConnection
from lumatile.sink.memory import VALUES
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
from lumatile.delivery.flight_sink import FlightSink
from lumatile.sink import sinks

servers, go = sys.argv[1:3], sys.argv[3]


def addresses():  # the first one once, then the other
    return [servers.pop(0)] if len(servers) > 1 else servers


sinks.open_sink = lambda url, settings, *, backend: FlightSink(url, settings, addresses=addresses)
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


@pytest.fixture(autouse=True)
def _without_a_spool(monkeypatch):
    """What a spool does is tested elsewhere."""
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


def test_a_recording_whose_writer_dies_is_opened_again(tmp_path, monkeypatch):
    from lumatile.write.writer import SegmentWriter
    from lumatile_kernels import select_backend
    from lumatile_service.ingest.flight_server import IngestServer
    from lumatile_service.ingest.recordings import Ingest

    append, fails = SegmentWriter.append_small, threading.Event()

    def dies(self, rows, tiles):
        if fails.is_set():
            fails.clear()
            raise MemoryError
        append(self, rows, tiles)

    monkeypatch.setattr(SegmentWriter, "append_small", dies)
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
    from lumatile_service.ingest.flight_server import IngestServer
    from lumatile_service.ingest.recordings import Ingest

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
