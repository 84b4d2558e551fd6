"""What an ingest does where threads, streams and servers meet at the worst moment; the moments are made."""

import threading
import time
from dataclasses import replace

import pytest
from tests.support.flight_hand import logged
from tests.support.flight_service import poll, stored_keys

import lumatile as lt
from lumatile.errors import FlushError, InvalidValueError, LumatileWarning
from lumatile.settings import RecordingSettings
from lumatile.sink.gaps import Gaps
from lumatile.storage import local_directory
from lumatile.storage.open_storage import open_storage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.merge import merge
from lumatile.write.writer import SegmentWriter
from lumatile_kernels import BackendUnavailableError, select_backend
from lumatile_service.embedded import progress
from lumatile_service.embedded import sink as embedded
from lumatile_service.embedded.known_keys import KnownKeys
from lumatile_service.embedded.sink import open_embedded
from lumatile_service.ingest import acknowledger
from lumatile_service.ingest.acknowledger import Acknowledger, Health
from lumatile_service.ingest.ingest_node import IngestNode
from lumatile_service.ingest.recordings import Ingest, RecordingIngest
from lumatile_service.metrics.traffic import Traffic

SETTINGS = RecordingSettings(application_id="flight", recording_id="run")


def recording_ingest(store):
    return RecordingIngest(store, SETTINGS, select_backend("numpy"), 1 << 24, Traffic())


def keys(values):
    return [(value.producer, value.seq) for value in values]


def test_who_flushes_has_been_told_what_is_durable(tmp_path, monkeypatch):
    """A stream ends with a flush: nobody is there any more to be told afterwards."""
    real = RecordingIngest._durable

    def late(*args):
        time.sleep(0.2)
        real(*args)

    monkeypatch.setattr(RecordingIngest, "_durable", late)
    ingest = recording_ingest(tmp_path)
    told = []
    (value,) = logged(1)
    ingest.put(value, lambda *key: told.append(key))
    ingest.flush(10)
    assert told == keys([value])
    assert ingest.pending == 0
    ingest.close(10)


@pytest.mark.parametrize("power", ["stays", "fails"])
def test_what_another_server_has_not_made_durable_is_not_acknowledged_here(tmp_path, monkeypatch, power):
    """Its rename can be seen; the sync of the directory hangs, and fails."""
    (value,) = logged(1)
    first, second = recording_ingest(tmp_path), recording_ingest(tmp_path)
    hangs, goes_on, synced = threading.Event(), threading.Event(), []
    real = local_directory.sync_directory

    def sync(path):
        if path.name == "frames":
            if not hangs.is_set():
                hangs.set()
                assert goes_on.wait(10)
                raise OSError(5, "Input/output error")
            synced.append(path)
        real(path)

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(local_directory, "sync_directory", sync)
    first.put(value, lambda *_: None)
    first.commit_soon()
    assert hangs.wait(10)
    told = []
    second.begin()
    second.put(value, lambda *key: told.append((key, list(synced))))
    assert told == [(keys([value])[0], [tmp_path / "run" / "frames"])], "acknowledged once the directory is durable"
    if power == "fails":
        monkeypatch.setattr(local_directory.LocalDirectory, "create_tiles", broken)  # it never writes it again
    goes_on.set()
    poll(lambda: first.health.failures)
    assert stored_keys(tmp_path).keys() == set(keys([value]))
    if power == "stays":
        first.flush(10)
    first.discard()
    second.close(10)
    (frame,) = lt.open_store(tmp_path).recording("run").frames("w/0")
    assert frame.key == keys([value])[0]


def test_keys_that_move_while_they_are_read_are_found(tmp_path):
    storage = open_storage(tmp_path).recording("run")
    target = SegmentWriter(tmp_path, SETTINGS)
    for seq in range(2):
        row = {"entity_path": "a", "kind": "ext", "log_time": 0, "log_tick": 0, "producer": b"p" * 16, "seq": seq}
        target.append(row, [])
        target.commit()
    target.close()
    files = storage.committed()

    class Merged(type(storage)):
        """It is merged between a listing and the reading of what was listed."""

        def committed(self):
            if storage.committed() == files:
                disk = WriteBehind()
                merge(storage, SETTINGS, disk, files)
                disk.close()
                storage.delete(files)
                return files
            return storage.committed()

    known = KnownKeys(Merged(path=storage.path))
    known.refresh()
    assert [known.holds(b"p" * 16, seq) for seq in range(3)] == [True, True, False]


def test_recordings_that_cannot_be_opened_take_nobodys_place(tmp_path):
    ingest = Ingest(tmp_path, lambda: select_backend("numpy"), most=2)
    for number in range(3):
        wrong = RecordingSettings(application_id="flight", recording_id=f"{number}" * 300)
        with pytest.raises(InvalidValueError, match="recording_id must take 1 to 200 bytes"), ingest.stream(wrong):
            pass
    with ingest.stream(SETTINGS):
        pass
    ingest.close(10)


def test_one_recording_that_cannot_be_flushed_keeps_no_other_from_being_drained(tmp_path, monkeypatch):
    node = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=[0])
    monkeypatch.setattr(progress, "ATTEMPTS", 1)
    monkeypatch.setattr("lumatile.write.writer.SEGMENT_SECONDS", 60.0)
    told = []
    (value,) = logged(1)
    for name in ("bad", "run"):
        with node._ingest.stream(replace(SETTINGS, recording_id=name)) as recording:
            recording.put(value, lambda *_, name=name: told.append(name))
    real = local_directory.LocalDirectory.commit

    def commit(self, *args):
        if self.path.name == "bad":
            raise OSError(28, "No space left on device")
        return real(self, *args)

    monkeypatch.setattr(local_directory.LocalDirectory, "commit", commit)
    with pytest.raises(FlushError, match="No space left"):
        node._server.drain(10)
    assert told == ["run"]
    with pytest.raises(FlushError):
        node.drain(10)
    assert node.status()["recordings"] == 0
    node._server.shutdown()


class StreamWriter:
    """The server's end of a stream."""

    def __init__(self):
        self.messages = []

    def write_metadata(self, message):
        self.messages.append(bytes(message))


def test_failures_before_a_stream_are_not_told_to_it(monkeypatch):
    """Also where a heartbeat is made in the moment in which its recording becomes known."""
    monkeypatch.setattr(acknowledger, "HEARTBEAT_SECONDS", 0.01)
    writer = StreamWriter()
    made = Acknowledger(writer)
    real, old = acknowledger.ranges, Health(failures=5, failure="of yesterday")

    def ranges(found):
        monkeypatch.setattr(acknowledger, "ranges", real)
        made.watch(lambda: old)
        return real(found)

    monkeypatch.setattr(acknowledger, "ranges", ranges)
    with made:
        poll(lambda: len(writer.messages) > 2)
        old = replace(old, failures=6, failure="of today")
        poll(lambda: any(b"today" in message for message in writer.messages))
    assert not any(b"yesterday" in message for message in writer.messages)
    assert sum(b'"failures":1' in message for message in writer.messages) == 1


def gap_sink(store):
    """A sink whose queue takes one value, and a value it has dropped."""
    settings = replace(SETTINGS, queue_bytes=1, queue_policy="drop_newest")
    return open_embedded(str(store), settings, backend="numpy")


@pytest.fixture
def blocked(monkeypatch):
    """The decoding thread takes the first value, and then waits for `go`."""
    go, real = threading.Event(), embedded.Pipeline.decode

    def decode(*args):
        assert go.wait(10)
        return real(*args)

    monkeypatch.setattr(embedded.Pipeline, "decode", decode)
    return go


def test_a_gap_that_comes_when_the_writer_rests_is_written_too(tmp_path, monkeypatch, blocked):
    first, second, third = logged(3)
    real = Gaps.add

    def add(self, values):
        blocked.set()
        poll(lambda: len(stored_keys(tmp_path)) == 1)
        time.sleep(0.1)  # the writing thread waits for more
        real(self, values)

    monkeypatch.setattr(Gaps, "add", add)
    sink = gap_sink(tmp_path)
    sink.put(first)
    poll(lambda: not len(sink._intake.queue))
    sink.put(second)
    with pytest.warns(LumatileWarning, match="values are dropped"):
        sink.put(third)
    poll(lambda: len(stored_keys(tmp_path)) == 3, 5)
    with pytest.raises(FlushError, match="dropped since the last flush"):
        sink.close(10)


def test_a_flush_waits_for_gaps_that_are_being_written(tmp_path, monkeypatch):
    sink = gap_sink(tmp_path)
    begun, go, real = threading.Event(), threading.Event(), SegmentWriter.commit
    first, second = logged(2)
    sink.put(first)
    assert sink.flush(10) == "store"

    def commit(self):
        begun.set()
        assert go.wait(10)
        return real(self)

    monkeypatch.setattr(SegmentWriter, "commit", commit)
    sink._intake.queue._drop([second])
    sink.commit_soon()
    assert begun.wait(10)
    with pytest.raises(FlushError, match="timed out"):
        sink.flush(0.1)
    go.set()
    assert sink.flush(10) == "store"
    assert len(stored_keys(tmp_path)) == 2
    sink.close(10)


def test_a_sink_that_cannot_be_opened_leaves_no_threads(tmp_path, monkeypatch):
    def none(*_, **__):
        raise BackendUnavailableError("no device")

    monkeypatch.setattr(embedded, "select_backend", none)
    before = threading.active_count()
    with pytest.raises(BackendUnavailableError):
        open_embedded(str(tmp_path), SETTINGS)
    assert threading.active_count() == before
    assert not list(tmp_path.iterdir())
