"""What happens between two steps of a delivery: an acknowledgement, a failure, Ctrl-C or a fork just there."""

import os
import subprocess
import sys
import threading
import time

import pytest
from pyarrow import flight
from tests.support.flight_service import image, poll

import lumatile as lt
from lumatile.delivery.connection import FINISH_SECONDS, FlightConnection
from lumatile.delivery.flight_sink import FlightSink
from lumatile.delivery.spill import Spill
from lumatile.errors import FlushError
from lumatile.format.schema import LOG
from lumatile.settings import RecordingSettings
from lumatile.sink.memory import VALUES
from lumatile.spool.directory import HeldFile
from lumatile.spool.spool import Spool
from lumatile.wire.acknowledgements import SILENCE_SECONDS, Acknowledgement

SETTINGS = RecordingSettings(application_id="app", recording_id="run")
AWAY = "grpc://127.0.0.1:1"


@pytest.fixture
def values(name):
    """Twelve images, from 0."""
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True)
    for i in range(12):
        recording.log_image("a", image(0, i))
    return VALUES[name]


def sink_with_a_spool(root, **options):
    """One of a service that is away."""
    return FlightSink(AWAY, SETTINGS, spool=Spool(root, AWAY, SETTINGS), **options)


def test_values_that_are_acknowledged_while_they_are_to_be_spooled_end_nothing(tmp_path, values, monkeypatch):
    sink = sink_with_a_spool(tmp_path)
    due = Spill.due

    def acknowledged_meanwhile(spill, *arguments, **options):
        if not due(spill, *arguments, **options):
            return False
        keys = [(value.producer, value.seq, value.seq) for value in sink._backlog._window.values()]
        monkeypatch.setattr(Spill, "due", due)
        sink._backlog.heard(Acknowledgement(durable=tuple(keys)))
        return True

    monkeypatch.setattr(Spill, "due", acknowledged_meanwhile)
    sink.put(values[0])
    poll(lambda: Spill.due is due)
    sink.put(values[1])
    assert sink.flush(10) == "spool"
    sink.close(0)


def test_what_a_sink_whose_thread_dies_still_has_goes_to_the_spool(tmp_path, values, monkeypatch):
    sink = sink_with_a_spool(tmp_path)

    def die(*_):
        raise MemoryError("none left")

    monkeypatch.setattr(sink._backlog, "_next_unit", die)
    sink.put(values[0])
    poll(lambda: sink._backlog.stopped or setattr(sink._backlog, "_attempts", 0))
    assert list(tmp_path.glob("*/*.segment"))
    sink.close(0)


def test_a_sink_whose_thread_has_died_says_what_is_lost_when_it_is_closed(values, monkeypatch):
    was_put = threading.Event()
    monkeypatch.setattr(FlightSink, "_drive", lambda *_: was_put.wait() and 1 / 0)
    sink = FlightSink(AWAY, SETTINGS)
    sink.put(values[0])
    was_put.set()
    poll(lambda: sink._backlog.stopped)
    with pytest.raises(FlushError, match="1 logged values are not durable: division by zero"):
        sink.close()


def test_a_flush_ends_where_a_spool_cannot_be_closed(tmp_path, values, monkeypatch):
    sink = sink_with_a_spool(tmp_path)
    sink.put(values[0])
    assert sink.flush() == "spool"
    close, held = HeldFile.close, []

    def fail(file):
        held.append(file)
        raise OSError(5, "input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(HeldFile, "close", fail)
        sink.close(0)
        poll(lambda: not sink._thread.is_alive())
        flush = threading.Thread(target=sink.flush, daemon=True)
        flush.start()
        flush.join(5)
    assert not flush.is_alive()
    for file in held:
        close(file)


@pytest.mark.parametrize("name_of_thread", ["lumatile-write", "lumatile-read", "lumatile-adopt"])
def test_a_process_that_may_start_no_thread_for_a_while_goes_on_logging(tmp_path, monkeypatch, name_of_thread):
    start, refused = threading.Thread.start, []

    def no_more(thread):
        if thread.name == name_of_thread and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_more)
    monkeypatch.setenv("LUMATILE_SPOOL", str(tmp_path))
    with Taking() as server:
        recording = lt.new_recording("app", "run", sink=server.url)
        recording.log_image("a", image(0, 0))
        poll(lambda: refused)
        poll(lambda: recording.flush(5) == "store")
        recording.disconnect()


class Taking(flight.FlightServerBase):
    """A server that acknowledges everything, and does not end a stream where it `lingers`."""

    def __init__(self, *, lingers=False):
        super().__init__("grpc://127.0.0.1:0")
        self.url = f"grpc://127.0.0.1:{self.port}"
        self.lingers = lingers

    def get_flight_info(self, context, descriptor):
        return flight.FlightInfo(LOG, descriptor, [], -1, -1)

    def do_exchange(self, context, descriptor, reader, writer):
        while self.lingers and not context.is_cancelled():
            writer.write_metadata(Acknowledgement().encode())
            time.sleep(SILENCE_SECONDS / 10)
        writer.write_metadata(Acknowledgement().encode())
        for chunk in reader:
            if chunk.data is not None:
                rows = chunk.data.to_pylist()
                durable = tuple((row["producer"], row["seq"], row["seq"]) for row in rows)
                writer.write_metadata(Acknowledgement(durable=durable).encode())
            elif chunk.app_metadata.to_pybytes() == b"end":
                return


def test_a_link_is_finished_in_bounded_time_though_its_server_is_heard_of():
    with Taking(lingers=True) as server:
        link = FlightConnection(lambda: server.url, SETTINGS, print)
        poll(lambda: link.open)
        began = time.monotonic()
        link.finish()
        assert time.monotonic() - began < FINISH_SECONDS + 2
        assert not link._writing.is_alive()


INTERRUPTED = """
import os, signal, socket, sys, threading
import numpy as np
import lumatile as lt
from lumatile.delivery.flushes import PendingFlush

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and says nothing
url = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
recordings = [lt.new_recording("app", f"run{i}", sink=url) for i in range(2)]
for recording in recordings:
    recording.log_image("a", np.zeros((4, 4, 3), np.uint8))
wait = PendingFlush.wait


def interrupted(flush):
    PendingFlush.wait = wait
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    return wait(flush)


PendingFlush.wait = interrupted
if sys.argv[1] == "disconnect":
    recordings[0].disconnect()
"""


@pytest.mark.parametrize("where", ["disconnect", "exit"])
def test_ctrl_c_while_a_process_waits_for_its_service_leaves_the_values_in_the_spool(tmp_path, where):
    environment = {**os.environ, "LUMATILE_SPOOL": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, where], env=environment, capture_output=True, timeout=60, check=False
    )
    assert b"KeyboardInterrupt" in done.stderr
    assert len(list(tmp_path.glob("*/*.segment"))) == 2
