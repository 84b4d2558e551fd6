"""What a server is sent twice, in any order, in pieces, or to do it harm."""

import contextlib
import os
import socket
import threading

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import flight
from tests.support.flight_hand import Hand, changed, logged
from tests.support.flight_service import Server, check, fresh, logger, poll, quiet, stored_keys

import lumatile as lt
from lumatile.format.schema import LOG
from lumatile.read.verify import verify
from lumatile.wire.encoding import encode


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


def test_duplicate_and_reordered_sends(tmp_path):
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
            check(tmp_path, {0: 40}, url=restarted.url)
        assert set(stored_keys(tmp_path)) == keys


def test_truncated_sends(shared):
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
    assert verify(shared.store).ok
    fresh(shared.store, shared.url, "after pieces")


class Cutter:
    """Links to a server: the first ones end after so many bytes of what the client sends, the others do not."""

    def __init__(self, port, lengths):
        self.port, self.lengths, self.cuts = port, list(lengths), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"grpc://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ends = [self.listener]
        self.threads = []
        self.run(self.accept)

    def run(self, what, *arguments):
        self.threads.append(threading.Thread(target=what, args=arguments, daemon=True))
        self.threads[-1].start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                self.ends += [client, server]
                left = self.lengths.pop(0) if self.lengths else None
                self.run(self.pass_on, client, server, left)
                self.run(self.pass_on, server, client, None)

    def pass_on(self, source, target, left):
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                content = content[:left]
                target.sendall(content)
                if left is not None and not (left := left - len(content)):
                    self.cuts += 1
                    break
        self.end(source, target)

    def end(self, *ends):
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(*self.ends)
        for thread in self.threads:
            thread.join(10)
        for end in self.ends:
            end.close()


def test_sends_that_are_truncated_at_any_byte(tmp_path):
    lengths = [1, 300, *np.random.default_rng(0).integers(1000, 100_000, 12).tolist()]
    with Server(tmp_path) as server:
        with Cutter(server.port, lengths) as cutter, logger(cutter.url) as process:
            poll(lambda: process.said() > 50 and not cutter.lengths, 60, else_show=process.state)
            process.kill()
        assert cutter.cuts >= 5  # the other links ended by themselves
        poll(lambda: quiet(tmp_path))
        check(tmp_path, {0: process.said()}, url=server.url)


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
def test_hostile_flight_messages(shared, what):
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
        keys = {(value.producer, value.seq) for value in good}
        assert other.durable(2) == keys
    assert stored_keys(shared.store, "good").items() >= dict.fromkeys(keys, 1).items()
    assert not (shared.store / "hostile" / "frames").exists() or not stored_keys(shared.store, "hostile")
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
    assert verify(shared.store).ok
