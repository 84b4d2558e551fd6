"""The parts of a service that need no Ray: addresses, placement, meters, the front.

Longer than other files: its tests share the front and the nodes that it knows.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future, wait
from types import SimpleNamespace

import numpy as np
import pytest
from pyarrow import flight
from tests.support.flight_hand import Hand, logged

import lumatile as lt
from lumatile.delivery.flight_sink import FlightSink
from lumatile.errors import InvalidValueError, SinkError
from lumatile.settings import RecordingSettings
from lumatile.wire.encoding import encode
from lumatile_service.cluster import ray_actors
from lumatile_service.cluster.placement import Placement, place
from lumatile_service.endpoint import Endpoint, own_address, port_range
from lumatile_service.ingest.front import Front
from lumatile_service.ingest.ingest_node import IngestNode
from lumatile_service.metrics.meter import RATE_SECONDS, Meter

INGEST = flight.FlightDescriptor.for_command(b"ingest")


@pytest.fixture
def front():
    """Start a front of the addresses; give it and a client."""
    with contextlib.ExitStack() as stack:

        def front(*addresses):
            made = Front("grpc://127.0.0.1:0", addresses=lambda: addresses, status=lambda: {"actors": []})
            client = stack.enter_context(flight.connect(f"grpc://127.0.0.1:{made.port}"))
            stack.callback(made.shutdown)
            return made, client

        yield front


def test_a_front_names_every_server_and_is_none(front):
    _, client = front("grpc://127.0.0.1:1", "grpc://127.0.0.1:2")
    endpoints = client.get_flight_info(INGEST).endpoints
    assert [e.locations[0].uri for e in endpoints] == [b"grpc://127.0.0.1:1", b"grpc://127.0.0.1:2"]
    _, reader = client.do_exchange(INGEST)
    with pytest.raises(flight.FlightServerError, match="takes no values: ask it with GetFlightInfo"):
        reader.read_chunk()


def test_a_front_says_why_there_is_no_server(front):
    made, client = front()
    with pytest.raises(flight.FlightUnavailableError, match="none of the service's ingest actors answers"):
        client.get_flight_info(INGEST)
    made.draining = True
    with pytest.raises(flight.FlightUnavailableError, match="being shut down"):
        client.get_flight_info(INGEST)


def test_a_front_gives_the_status_and_nothing_else(front):
    _, client = front()
    assert [action.type for action in client.list_actions()] == ["status"]
    (answer,) = client.do_action("status")
    assert json.loads(answer.body.to_pybytes()) == {"actors": []}
    with pytest.raises(flight.FlightServerError, match="must be 'status', not 'shutdown'"):
        list(client.do_action("shutdown"))


def test_an_ingest_node_needs_no_ray_and_is_empty_when_it_has_drained(tmp_path):
    node = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=(0,))
    recording = lt.new_recording("app", "run", sink=node.address(), strict=True)
    for _ in range(3):
        recording.log_image("image", np.zeros((8, 8, 3), np.uint8))
    recording.flush(60)
    status = node.status()
    assert (status["accepted"]["values"], status["acknowledged"]["values"], status["recordings"]) == (3, 3, 1)
    assert status["accepted"]["values_per_second"] > 0
    recording.disconnect()
    node.drain(30)
    assert (node.status()["pending_values"], node.status()["queued_bytes"]) == (0, 0)
    assert len(lt.open_store(tmp_path).recording("run").frames("image")) == 3
    client = flight.connect(node.address())
    _, reader = client.do_exchange(flight.FlightDescriptor.for_command(b"{}"))
    with pytest.raises(flight.FlightUnavailableError, match="being shut down"):
        reader.read_chunk()
    client.close()


def test_an_ingest_node_takes_the_first_port_that_is_free(tmp_path):
    with socket.socket() as taken, socket.socket() as probe:
        for other in (taken, probe):
            other.bind(("127.0.0.1", 0))
        taken.listen()
        first, second = taken.getsockname()[1], probe.getsockname()[1]
        probe.close()
        node = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise="cluster.example", ports=(first, second))
        assert node.address() == f"grpc://cluster.example:{second}"
        with pytest.raises(SinkError, match="no port of 127"):
            IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=(first, second))


def test_a_sink_asks_for_its_servers_until_there_are_some(tmp_path):
    node = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=(0,))
    asked, answered = [], threading.Event()

    def addresses():
        asked.append(None)
        if len(asked) < 3:
            raise SinkError("no actor yet")
        answered.set()
        return [node.address()]

    settings = RecordingSettings(application_id="app", recording_id="run")
    sink = FlightSink("ray://lumatile", settings, addresses=addresses)
    assert answered.wait(30)
    sink.close(10)
    node.drain(10)


@pytest.mark.parametrize("url", ["ray://127.0.0.1:6379", "ray://", "ray://host.name", "ray://lumatile"])
def test_a_ray_sink_is_a_name_and_for_a_ray_job(url):
    pytest.importorskip("ray")
    error, message = (SinkError, "call ray.init first") if url == "ray://lumatile" else (InvalidValueError, "use grpc")
    with pytest.raises(error, match=message):
        lt.new_recording("app", sink=url, strict=True).log_point("a", [0, 0])


@pytest.mark.parametrize(
    ("nodes", "actors", "placement"),
    [
        ([{"CPU": 2}], None, Placement(actors=1, cpus=2, gpus=0)),
        ([{"CPU": 1}], None, Placement(actors=1, cpus=0, gpus=0)),
        ([{"CPU": 0}, {"CPU": 5}, {"CPU": 4}], None, Placement(actors=4, cpus=2, gpus=0)),
        ([{"CPU": 64}, {"CPU": 8, "GPU": 2}], None, Placement(actors=2, cpus=0, gpus=1)),
        ([{"GPU": 2}], 4, Placement(actors=4, cpus=0, gpus=0.5)),
        ([{"GPU": 2}], 1, Placement(actors=1, cpus=0, gpus=1)),
        ([{"CPU": 2}], 3, Placement(actors=3, cpus=0.6666, gpus=0)),
        ([], None, Placement(actors=1, cpus=0, gpus=0)),
    ],
)
def test_there_is_an_actor_for_a_gpu_or_for_two_cores(nodes, actors, placement):
    assert place(nodes, actors) == placement


def test_a_machine_is_never_advertised_at_loopback(monkeypatch):
    def no_route():
        raise OSError("network is unreachable")

    monkeypatch.setattr("lumatile_service.endpoint._route", no_route)
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "127.0.1.1")  # as on Debian
    with pytest.raises(lt.LumatileError, match="give one with --advertise"):
        own_address()
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "10.1.2.3")
    assert own_address() == "10.1.2.3"


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:9876", "127.0.0.1", 9876, True),
        ("[::1]:1", "::1", 1, True),
        ("localhost:0", "localhost", 0, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("cluster.example:80", "cluster.example", 80, False),
    ],
)
def test_an_address_is_a_host_and_a_port(text, host, port, loopback):
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port, endpoint.is_loopback) == (host, port, loopback)
    assert endpoint.url == f"grpc://{text}"


@pytest.mark.parametrize("text", ["", "9876", "127.0.0.1", "a:65536", "a:b", "::1:80", "a b:1", "a:1\n"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidValueError, match="HOST:PORT"):
        Endpoint.parse(text)


def test_a_range_of_ports_has_both_ends():
    assert list(port_range("5-7")) == [5, 6, 7]
    assert list(port_range("5")) == [5]
    assert list(port_range(None)) == [0]
    for text in ("7-5", "0-5", "1-70000", "a-b", "-5", ""):
        with pytest.raises(InvalidValueError, match="between 1 and 65535"):
            port_range(text)


def test_a_meter_counts_and_its_rate_fades():
    now = 100.0
    meter = Meter(lambda: now)
    for _ in range(100):
        meter.count(2, 30)
        now += 0.5
    assert (meter.read()["values"], meter.read()["bytes"]) == (200, 3000)
    assert meter.read()["values_per_second"] == pytest.approx(4, rel=0.06)
    assert meter.read()["bytes_per_second"] == pytest.approx(60, rel=0.06)
    now += 20 * RATE_SECONDS
    assert meter.read() == {"values": 200, "bytes": 3000, "values_per_second": 0, "bytes_per_second": 0}


def cli(*arguments):
    code = "from lumatile_service.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--listen", "0.0.0.0:9876"), "without tokens the service listens on loopback only, not at 0.0.0.0"),
        (("--listen", "9876"), "must be HOST:PORT"),
        (("--http", "9877"), "must be HOST:PORT"),
        (("--http", "192.0.2.1:9877"), "cannot listen at 192.0.2.1:9877: "),
        (("--data-ports", "9-8"), "ports must be A-B"),
        (("--actors", "0"), "at least 1 actor"),
        (("--store", "ftp://host/x"), "a store must be a path or a URL"),
        (("--store", "/dev/null/store"), "cannot be written"),
        (("--ray-address", "ray://somewhere:1"), "must be 'auto' or HOST:PORT"),
        (("--ray-address", "127.0.0.1:1"), "there is no Ray to join at 127.0.0.1:1"),
    ],
)
def test_serve_that_is_used_wrong_says_so_in_a_line_and_starts_nothing(arguments, message, tmp_path):
    code, out, err = cli("serve", "--store", str(tmp_path), "--listen", "127.0.0.1:0", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("others", [{"--listen"}, {"--http"}, set()])
def test_serve_says_that_somebody_listens_already(tmp_path, others):
    """Somebody else at one of its addresses, or it itself at both."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        if others:
            taken.listen()
        else:
            taken.close()
        options = dict.fromkeys(("--listen", "--http"), "127.0.0.1:0") | dict.fromkeys(
            others or ("--listen", "--http"), address
        )
        code, out, err = cli(
            "serve", "--store", str(tmp_path), *(word for option in options.items() for word in option)
        )
    assert (code, out) == (2, "")
    assert err == f"lumatile: cannot listen at {address}: Address already in use\n"


@pytest.mark.parametrize("package", ["ray", "prometheus_client"])
def test_without_a_package_serve_says_what_to_install(package, tmp_path):
    code = f"import sys; sys.modules['{package}'] = None; from lumatile_service.cli import main; main()"
    arguments = ["serve", "--store", str(tmp_path), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"lumatile: the service needs {package}: pip install 'lumatile[service]'\n"


def test_the_command_line_loads_no_ray():
    loaded = "[name for name in ('ray', 'prometheus_client') if name in sys.modules]"
    code = f"import sys, lumatile_service.cli.app, lumatile_service.cluster.serve; print({loaded})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


STOPPED = """
import os, signal, sys, threading
from lumatile_service.cluster.serve import _stop_signal


def at_the_worst_moment(frame, event, _):
    if event == "call" and frame.f_code.co_name == "_release_save":  # the lock of an Event that is waited for is held
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)


wait = _stop_signal()
timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
timer.start()
sys.setprofile(at_the_worst_moment)
wait()
sys.setprofile(None)
print("stopped", flush=True)
timer.cancel()
"""


def test_a_signal_stops_the_service_whenever_it_comes():
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.returncode) == ("stopped\n", 0), done.stderr


class NodeHandle:
    """An ingest node as Ray's handles show it."""

    def __init__(self, node):
        self.drain = self
        self._node = node

    def remote(self, timeout):
        done = Future()
        on_its_way = threading.Timer(0.1, lambda: done.set_result(self._node.drain(timeout)))
        on_its_way.start()
        return done


def test_a_client_that_hangs_makes_no_drain_fail(tmp_path, monkeypatch):
    ray = SimpleNamespace(
        wait=lambda references, num_returns, timeout: wait(references, timeout),  # noqa: ARG005
        get=lambda reference, timeout: reference.result(timeout),
        kill=lambda _: None,
    )
    monkeypatch.setattr(ray_actors, "ray", ray)
    monkeypatch.setattr(ray_actors, "_wait_until_gone", lambda _: None)
    node = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=[0])
    actors = object.__new__(ray_actors.IngestActors)
    actors._actors, actors._names = [NodeHandle(node)], ["node"]
    with Hand(node.address()) as hangs:
        hangs.send(encode(logged(1)))
        assert hangs.durable(1)
        actors.drain(1.5)
    node._server.shutdown()
