"""A service of several servers: when one dies, its clients go on with another at once."""

import pytest
from tests.support.flight_service import Server, check, image, poll

from lumatile.delivery import flight_sink, forks
from lumatile.delivery.flight_sink import FlightSink
from lumatile.errors import SinkError
from lumatile.log.recording import RecordingStream
from lumatile.settings import RecordingSettings
from lumatile.spool.spool import Spool

SETTINGS = RecordingSettings(application_id="flight", recording_id="run")


@pytest.fixture
def no_waits(monkeypatch):
    """A wait before an attempt to connect would never end."""
    monkeypatch.setattr(flight_sink, "BACKOFF_SECONDS", (3600.0, 3600.0))


def logged(recording, count):
    for i in range(count):
        recording.set_time_sequence("i", i)
        recording.log_image("w/0", image(0, i))
        yield i


@pytest.mark.parametrize("spooled", [False, True])
def test_when_a_server_dies_the_other_one_takes_over_without_a_wait_or_a_spool(tmp_path, no_waits, spooled):
    store, asked = tmp_path / "store", []
    with Server(store) as first, Server(store) as second:

        def addresses():
            asked.append(None)
            return [first.url, second.url]

        spool = Spool(tmp_path / "spool", "grpc://service", SETTINGS) if spooled else None
        recording = RecordingStream(
            SETTINGS, lambda settings: FlightSink("grpc://service", settings, addresses=addresses, spool=spool)
        )
        for i in logged(recording, 6):
            if i == 3:
                first.kill()
            assert recording.flush() == "store"
        recording.disconnect()
        assert len(asked) == 1
        check(store, {0: 6}, url=second.url)


def test_a_server_that_has_failed_is_tried_again_once_another_has_proved_itself(tmp_path, no_waits):
    store = tmp_path / "store"
    with Server(store) as first, Server(store) as second:
        recording = RecordingStream(
            SETTINGS,
            lambda settings: FlightSink("grpc://service", settings, addresses=lambda: [first.url, second.url]),
        )
        for i in logged(recording, 9):
            if i == 3:
                first.kill()
            if i == 6:
                with Server(store, port=first.port) as again:
                    second.kill()
                    assert recording.flush() == "store"
                    recording.disconnect()
                    check(store, {0: 7}, url=again.url)
                break
            assert recording.flush() == "store"


def test_only_when_every_server_has_failed_does_the_service_count_as_away(tmp_path):
    asked = []

    def addresses():
        asked.append(None)
        return ["grpc://127.0.0.1:1", "grpc://127.0.0.1:2"]

    sink = FlightSink("grpc://service", SETTINGS, addresses=addresses)
    poll(lambda: sink.failure)
    assert len(asked) == 1
    assert "does not take values" in sink.failure
    poll(lambda: len(asked) > 1)
    sink.close(0)


def test_a_connection_that_fails_before_a_server_is_chosen_is_followed_by_a_wait(no_waits, monkeypatch):
    tried = []

    def fail():
        tried.append(None)
        raise SinkError("on purpose")

    monkeypatch.setattr(forks, "check", fail)
    sink = FlightSink("grpc://service", SETTINGS, addresses=list)
    poll(lambda: sink.failure)
    assert len(tried) == 2
    sink.close(0)
