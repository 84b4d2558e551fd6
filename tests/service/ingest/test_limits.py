"""What a server takes at most; what is beyond it is refused with the rule and the value, and nothing is lost."""

import re

import pytest
from pyarrow import flight
from tests.support.flight_hand import Hand, logged
from tests.support.flight_service import Server, check, image, logger, poll, quiet

import lumatile as lt
from lumatile.errors import FlushError
from lumatile.format.schema import LOG
from lumatile.wire.encoding import encode
from lumatile_kernels import select_backend
from lumatile_service.ingest.flight_server import IngestServer
from lumatile_service.ingest.recordings import Ingest, RecordingIngest


@pytest.fixture(autouse=True)
def _without_a_spool(monkeypatch):
    """What a spool does is tested elsewhere."""
    monkeypatch.setenv("LUMATILE_SPOOL", "off")


def log_to(url, recording, worker):
    """A recording with a value in it that waits."""
    made = lt.new_recording("flight", recording, sink=url)
    made.set_time_sequence("i", 0)
    made.log_image(f"w/{worker}", image(worker, 0))
    return made


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({"limits": {"streams": 2}}, "this server takes at most 2 streams at a time: try again later"),
        (
            {"ingest": {"most": 2, "idle_seconds": 0.2}},
            "this server writes at most 2 recordings at a time: try again later",
        ),
    ],
)
def test_one_stream_or_recording_too_many_is_told_the_limit_and_taken_once_another_ends(tmp_path, bound, message):
    with Server(tmp_path, **bound) as server:
        first, second = (log_to(server.url, name, 0) for name in ("first", "second"))
        assert first.flush(30) == second.flush(30) == "store"
        third = log_to(server.url, "run", 0)
        with pytest.raises(FlushError, match=f"1 logged values .*{message}") as raised:
            third.flush()
        assert "Traceback" not in str(raised.value)
        first.disconnect(timeout=30)
        assert poll(lambda: stored(third))
        for recording in (second, third):
            recording.disconnect(timeout=30)
        for name in ("first", "second", "run"):
            check(tmp_path, {0: 1}, recording=name, url=server.url)


def stored(recording):
    try:
        return recording.flush(10) == "store"
    except FlushError:
        return False


def test_streams_that_end_make_room_however_they_end(tmp_path):
    with Server(tmp_path, limits={"streams": 2}) as server:
        acknowledged = {}
        for worker in range(5):  # each dies with its stream open
            with logger(server.url, worker) as process:
                process.line(1)
                process.kill()
                acknowledged[worker] = process.said()
        with Hand(server.url, recording="other") as client:  # and one that is cut
            client.send([next(encode(logged(1)))] * 2, LOG)
            client.reader.cancel()
        poll(lambda: quiet(tmp_path))
        check(tmp_path, acknowledged, url=server.url)


def test_a_message_that_is_too_large_is_refused_with_the_rule_and_the_value(tmp_path):
    batch = next(encode(logged(1)))
    with Server(tmp_path, limits={"message_bytes": 1000}) as server:
        with Hand(server.url) as client:
            client.send([batch])
            with pytest.raises(flight.FlightServerError, match=r"at most 1000 bytes, not \d+ \(error "):
                client.answers()
        assert server.process.poll() is None
    assert not list(tmp_path.rglob("*.arrow"))


SECRET = "a secret of the server"


def test_what_goes_wrong_inside_is_a_message_and_an_id(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError(SECRET)

    monkeypatch.setattr(RecordingIngest, "begin", fail)
    ingest = Ingest(tmp_path, lambda: select_backend("numpy"))
    with IngestServer("grpc://127.0.0.1:0", ingest) as server, Hand(f"grpc://127.0.0.1:{server.port}") as client:
        client.send(encode(logged(1)))
        with pytest.raises(flight.FlightInternalError, match=r"internal error \(error ([0-9a-f]{8})\)") as raised:
            client.answers()
        told = str(raised.value)
        for call in (
            lambda: list(client.client.list_flights()),
            lambda: client.client.do_get(flight.Ticket(b"")).read_all(),
            lambda: list(client.client.do_action("status")),
            client.client.do_put(flight.FlightDescriptor.for_path("x"), LOG)[0].close,
        ):
            with pytest.raises(flight.FlightServerError, match="does not know that call") as raised:
                call()
            told += str(raised.value)
        assert client.client.get_schema(flight.FlightDescriptor.for_path("x")).schema == LOG
        ingest.close(10)
    assert SECRET in caplog.text
    number = re.search(r"error ([0-9a-f]{8})", told)[1]
    assert f"(error {number})" in caplog.text
    for word in (SECRET, "Traceback", 'File "', "RuntimeError", "site-packages"):
        assert word not in told
