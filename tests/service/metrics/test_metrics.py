"""Metrics in Prometheus form: exact numbers of an ingest node that real values, gaps and faults have passed.

Longer than other files: its tests share one node and the reader of its numbers.
"""

import contextlib
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse
from prometheus_client.registry import CollectorRegistry
from pyarrow import flight
from tests.support.flight_hand import Hand, changed, logged
from tests.support.flight_service import poll
from tests.support.jpeg_files import PHOTO, encoded

import lumatile as lt
from lumatile.errors import FlushError
from lumatile.format.schema import LOG
from lumatile.wire.encoding import encode
from lumatile.write.writer import SegmentWriter
from lumatile_service.ingest.ingest_node import IngestNode
from lumatile_service.metrics.prometheus import ServiceCollector
from lumatile_service.metrics.traffic import Traffic

UNITS = ("values", "bytes", "seconds", "segments", "errors", "recordings", "streams")

ERRORS = {
    *("store_write", "store_unavailable", "stream_refused", "stream_busy", "stream_unreadable", "value_unconverted"),
    "internal",
}


@pytest.fixture
def node(tmp_path):
    """An actor's node, without Ray."""
    made = IngestNode("node", str(tmp_path), host="127.0.0.1", advertise=None, ports=(0,))
    yield made
    with contextlib.suppress(FlushError):
        made.drain(10)


def samples(text):
    """Name, and labels less the actor -> number, of an exposition."""
    found = {}
    for family in parse(text):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "actor"))
            found[sample.name, *labels] = sample.value
    return found


def registry_of(*statuses):
    registry = CollectorRegistry()
    registry.register(ServiceCollector(lambda: statuses))
    return registry


def numbers(node):
    """The metrics of a node, as they are shown."""
    return samples(generate_latest(registry_of(node.status())).decode())


def counted(node):
    """Its counters that are not 0, without their prefix."""
    return {
        (name.removeprefix("lumatile_").removesuffix("_total"), *(value for _, value in labels)): number
        for (name, *labels), number in numbers(node).items()
        if name.endswith("_total") and number
    }


def files(store):
    """The number of all segments, and their bytes."""
    return {
        ("segments",): len(list(store.rglob("frames/*.arrow"))),
        ("segment_bytes",): sum(path.stat().st_size for path in store.rglob("*.arrow")),
    }


def send(node, values, count=None):
    """Send values by hand; wait until they are acknowledged."""
    with Hand(node.address()) as hand:
        hand.send(encode(values))
        keys = hand.durable(len(values) if count is None else count)
        hand.end()
    return keys


def talk(hand, batches=(), schema=LOG):
    """Send, and hear the end."""
    hand.send(batches, schema)
    hand.end()


def memory(values):
    """Bytes that values hold where they are received."""
    descriptions = [batch["value"].to_pylist() for batch in encode(values)]
    texts = [len(text) for column in descriptions for text in column]
    return sum((3 << 10) + value.array.nbytes + text for value, text in zip(values, texts, strict=True))


def test_a_value_is_accepted_stored_and_acknowledged_and_one_sent_twice_is_stored_once(node, tmp_path):
    values = logged(5)
    send(node, values)
    assert counted(node) == {
        ("accepted_values",): 5,
        ("acknowledged_values",): 5,
        ("stored_values",): 5,
        ("accepted_bytes",): memory(values),
        ("acknowledged_bytes",): memory(values),
        ("stored_bytes",): memory(values),
        **files(tmp_path),
    }
    send(node, values[:2])
    poll(lambda: numbers(node)["lumatile_streams",] == 0)
    twice = memory(values) + memory(values[:2])
    assert counted(node) == {
        ("accepted_values",): 7,
        ("acknowledged_values",): 7,
        ("stored_values",): 5,
        ("duplicate_values",): 2,
        ("accepted_bytes",): twice,
        ("acknowledged_bytes",): twice,
        ("stored_bytes",): memory(values),
        **files(tmp_path),
    }
    now = numbers(node)
    assert [now[f"lumatile_{name}",] for name in ("recordings", "pending_values", "queue_bytes")] == [1, 0, 0]
    node.drain(10)
    assert numbers(node)["lumatile_recordings",] == 0


def test_a_gap_counts_the_values_that_were_dropped(node):
    (value,) = logged(1)
    gap = replace(value, kind="gap", entity_path="", array=None, seq=10, seq_last=16)
    one = replace(gap, seq=3, seq_last=None)
    backwards = replace(gap, seq=30, seq_last=20)  # nobody sends that; a counter must not fall
    send(node, [value, gap, one, backwards], 4)
    send(node, [gap], 1)
    found = counted(node)
    assert found["dropped_values",] == 8
    assert (found["stored_values",], found["duplicate_values",]) == (4, 1)
    assert numbers(node)["lumatile_log_to_durable_seconds_count",] == 1, "a gap has no latency"


def test_values_that_are_refused_are_counted_by_why(node):
    value = json.loads(changed()["value"][0].as_py())
    wrong = changed(value=json.dumps(value | {"kind": "dream"}))
    with Hand(node.address()) as hand:
        hand.send([wrong, wrong])
        refused = [each for answer in hand.end() for each in answer.refused]
    assert len(refused) == 2
    assert counted(node) == {("refused_values", "malformed"): 2}


def test_a_value_that_is_too_large_is_refused_for_that(node):
    node._server._limits = replace(node._server._limits, value_bytes=100)
    with Hand(node.address()) as hand:
        talk(hand, encode(logged(1)))
    assert counted(node) == {("refused_values", "too_large"): 1}


def test_streams_that_end_badly_are_counted_by_why(node, monkeypatch):
    def refused(message, *, command=None, batches=(), schema=LOG):
        with Hand(node.address(), command) as hand, pytest.raises(flight.FlightError, match=message):
            talk(hand, batches, schema)

    refused("must be a recording's settings", command=b"{}")
    refused("the columns must be", schema=pa.schema([("x", pa.int32())]))
    refused("a value must not have", batches=[changed(size=-1)])
    assert counted(node) == {("errors", "stream_refused"): 3}
    node._server._limits = replace(node._server._limits, streams=0)
    refused("at most 0 streams")
    node._server._limits = replace(node._server._limits, streams=9)

    def fails(error):
        def stream(_):
            raise error

        monkeypatch.setattr(node._ingest, "stream", stream)

    fails(lt.LumatileError("what nobody expects"))
    refused("internal error")
    fails(OSError("the network"))
    refused("the stream cannot be read")
    monkeypatch.undo()
    assert counted(node) == {
        ("errors", "stream_refused"): 3,
        ("errors", "stream_busy"): 1,
        ("errors", "stream_unreadable"): 1,
        ("errors", "internal"): 1,
    }


def test_a_store_that_cannot_be_written_is_counted_and_nothing_is_stored_twice(node, tmp_path, monkeypatch):
    commit, left = SegmentWriter.commit, [2]

    def fails(self):
        if self.values and left[0]:
            left[0] -= 1
            self.abort()
            raise OSError(28, "No space left on device")
        return commit(self)

    monkeypatch.setattr(SegmentWriter, "commit", fails)
    send(node, logged(3))
    found = counted(node)
    assert found["errors", "store_write"] == 2
    assert (found["accepted_values",], found["stored_values",], found["segments",]) == (3, 3, 1)
    (tmp_path / "other").write_text("a file where the recording's directory would be")
    with Hand(node.address(), recording="other") as hand, pytest.raises(flight.FlightError, match="cannot be written"):
        talk(hand)
    assert counted(node)["errors", "store_unavailable"] == 1


def test_a_value_that_cannot_be_converted_is_counted_beside_its_error_row(node, tmp_path):
    good = logged(0, lambda recording: recording.log_image_file("photo", img_bytes=encoded(PHOTO)))
    bad = [replace(value, encoded=value.encoded[:200]) for value in good]
    send(node, bad)
    found = counted(node)
    assert (found["errors", "value_unconverted"], found["stored_values",]) == (1, 1)
    (frame,) = lt.open_store(tmp_path).recording("run").frames("photo")
    assert frame.error


def test_latency_is_from_the_log_call_to_durable_and_never_below_zero():
    now = 1_000_000_000_000_000_000
    traffic = Traffic(lambda: now)
    (value,) = logged(1)

    def after(seconds):
        return replace(value, time=replace(value.time, log_time=now - round(seconds * 1e9)))

    traffic.commit([after(0.5), after(0.500000001), after(-3), after(7200)], 100)
    latency = traffic.read()["log_to_durable"]
    assert dict(latency["buckets"]) == {
        **dict.fromkeys((0.01, 0.025, 0.05, 0.1, 0.25), 1),  # by a clock that is ahead: 0
        0.5: 2,
        **dict.fromkeys((0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0), 3),
        "+Inf": 4,
    }
    assert latency["sum"] == pytest.approx(7201.000000001)


def test_latency_of_real_values_is_what_a_clock_says(node):
    began = time.time()
    values = logged(3)
    send(node, values)
    took = time.time() - began
    found = numbers(node)
    assert found["lumatile_log_to_durable_seconds_count",] == 3
    assert 0 < found["lumatile_log_to_durable_seconds_sum",] < 3 * took


def test_status_and_metrics_say_the_same(node):
    send(node, logged(2))
    status, found = node.status(), numbers(node)
    for name in ("accepted", "acknowledged", "stored"):
        for unit in ("values", "bytes"):
            assert found[f"lumatile_{name}_{unit}_total",] == status[name][unit]
    assert json.loads(json.dumps(status)) == status


# names and forms


def families(text):
    return {family.name: family for family in parse(text)}


def test_every_family_has_help_a_unit_and_labels_that_are_few(node):
    send(node, logged(1))
    text = generate_latest(registry_of(node.status(), {"name": "other", "error": "no answer"})).decode()
    found = families(text)
    assert len(found) == 18
    for name, family in found.items():
        assert name.startswith("lumatile_")
        assert family.documentation
        assert name == "lumatile_actor_up" or name.rpartition("_")[2] in UNITS, name
        for sample in family.samples:
            assert set(sample.labels) <= {"actor", "reason", "le"}
            assert (family.type == "counter") == sample.name.endswith("_total")
    assert {s.labels["reason"] for s in found["lumatile_errors"].samples} == ERRORS
    assert {s.labels["reason"] for s in found["lumatile_refused_values"].samples} == {"too_large", "malformed"}
    assert {s.labels["actor"]: s.value for s in found["lumatile_actor_up"].samples} == {"node": 1, "other": 0}
    assert "other" not in text.replace('lumatile_actor_up{actor="other"}', "")
    for unbounded in ("run", "w/0"):
        assert f'"{unbounded}"' not in text


def test_all_families_are_there_without_an_actor_that_answers():
    full = families(generate_latest(registry_of({"name": "one", "error": "no answer"})).decode())
    assert len(full) == 18
    assert [family.name for family in full.values() if family.samples] == ["lumatile_actor_up"]


def test_the_guide_names_every_family_and_reason_and_no_other(node):
    guide = (Path(__file__).parents[3] / "docs" / "deploy.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", guide.partition("\n## Metrics\n")[2].partition("\n## ")[0], re.MULTILINE)
    named = {re.sub(r"[{].*", "", name) for row in rows for name in re.findall(r"`(.+?)`", row)}
    shown = families(generate_latest(registry_of(node.status())).decode()).values()
    assert named == {f.name + "_total" * (f.type == "counter") for f in shown} | ERRORS


def test_it_is_open_metrics_too(node):
    found = {family.name: family for family in parse_open_metrics(open_metrics(registry_of(node.status())).decode())}
    assert len(found) == 18
    assert all(name.endswith(family.unit) for name, family in found.items())
    assert found["lumatile_log_to_durable_seconds"].unit == "seconds"
