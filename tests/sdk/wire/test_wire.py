"""Logged values on the wire: they arrive as they were sent, and nothing else gets through."""

import contextlib
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lumatile as lt
from lumatile.format.schema import LOG
from lumatile.sink.memory import VALUES
from lumatile.values import LoggedValue, TimePoint
from lumatile.wire import decoding, encoding
from lumatile.wire.decoding import Decoder, Limits, WireError
from lumatile.wire.encoding import UnsendableError, encode
from lumatile.wire.protocol import Refused

LIMITS = Limits()


def logged(name, log):
    """The values of a recording."""
    recording = lt.new_recording("wire", name, sink=f"memory://{name}", strict=True)
    log(recording)
    return VALUES[name]


def received(values, limits=LIMITS):
    """Values, through Arrow's IPC format, as Flight sends it."""
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, LOG) as writer:
        for batch in encode(values):
            writer.write_batch(batch)
    decoder = Decoder(limits)
    return [value for batch in pa.ipc.open_stream(stream.getvalue()) for value in decoder.decode(batch)]


def assert_same(value, other):
    for name in LoggedValue.__dataclass_fields__:
        ours, theirs = getattr(value, name), getattr(other, name)
        if name == "array" and ours is not None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
            assert theirs.flags.c_contiguous
            assert theirs.flags.aligned
        elif name == "points" and ours is not None:
            assert_same_points(ours, theirs)
        elif name == "time":
            assert (ours.log_time, ours.log_tick, ours.timeless) == (theirs.log_time, theirs.log_tick, theirs.timeless)
            assert dict(ours.sequences) == dict(theirs.sequences)
            assert dict(ours.times) == dict(theirs.times)
        elif name != "nbytes":
            assert ours == theirs, name


def assert_same_points(ours, theirs):
    for name in ("positions", "colors", "radii", "class_ids", "keypoint_ids", "identifiers"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.labels and list(ours.labels)) == theirs.labels
    assert ours.source.keys() == theirs.source.keys()
    for name, column in ours.source.items():
        if isinstance(column, np.ndarray):
            assert column.dtype == theirs.source[name].dtype
            np.testing.assert_array_equal(column, theirs.source[name])
        else:
            assert list(column) == theirs.source[name]


def log_everything(recording):
    rng = np.random.default_rng(0)
    recording.set_time_sequence("step", 2**62)
    recording.set_time_nanos("sensor", -5)
    for dtype in ("uint8", "uint16", "float16", "float32", "float64"):
        recording.log_image(f"i/{dtype}", (rng.random((7, 5, 3)) * 200).astype(dtype), draw_order=1.5, ext={"é": [1]})
        recording.log_depth_image(f"d/{dtype}", (rng.random((7, 5)) * 200).astype(dtype), meter=3.7)
    recording.log_image("leading", np.zeros((1, 1, 4, 4), np.uint8))
    recording.log_segmentation_image("s", np.arange(12, dtype=np.int64).reshape(3, 4))
    recording.log_image("empty", np.zeros((0, 5, 3), np.uint8))
    recording.log_points("p", rng.random((9, 3)), colors=rng.random((9, 4)), labels=["a", None, "ü"] * 3, radii=2.0)
    recording.log_points("p", None)
    recording.log_point("q", [1, 2], label="one", class_id=3, keypoint_id=4, color=[1, 2, 3])
    recording.log_points("ids", rng.random((3, 2)), identifiers=[0, 5, 2**64 - 1])
    recording.log_annotation_context("/", [(1, "car", (255, 0, 0))])
    recording.log_extension_components("x", {"a": {"b": None}}, timeless=True)
    recording.log_cleared("x", recursive=True)


def test_values_arrive_as_they_were_sent():
    values = logged("everything", log_everything)
    arrived = received(values)
    assert len(arrived) == len(values)
    for value, other in zip(values, arrived, strict=True):
        assert_same(value, other)


def test_what_leaves_no_value_arrives_too():
    time = TimePoint(log_time=1, log_tick=2)
    gap = LoggedValue(
        entity_path="", kind="gap", time=time, producer=b"p" * 16, seq=3, seq_last=9, body='{"reason": 1}'
    )
    error = LoggedValue(entity_path="a", kind="depth", time=time, producer=b"p" * 16, seq=10, error="why")
    for value, other in zip([gap, error], received([gap, error]), strict=True):
        assert_same(value, other)


def test_small_values_share_batches_and_large_ones_come_in_parts(monkeypatch):
    for module in (decoding, encoding):
        monkeypatch.setattr(module, "PART_BYTES", 1000)
    monkeypatch.setattr(encoding, "BATCH_BYTES", 4000)

    def log(recording):
        for i in range(30):
            size = 100 if i % 7 else 4321
            recording.log_depth_image("d", np.full((1, size), i, np.uint8))

    values = logged("parts", log)
    batches = list(encode(values))
    assert any(batch.num_rows > 5 for batch in batches)
    assert all(batch.column(0).nbytes < 5000 for batch in batches)
    for value, other in zip(values, received(values), strict=True):
        assert_same(value, other)


def test_a_large_array_is_not_copied_on_its_way_out_or_in():
    (value,) = logged("views", lambda r: r.log_image("x", np.ones((1000, 1000, 3), np.uint8)))
    (batch,) = encode([value])
    start = batch.column(0).buffers()[2].address
    assert start == value.array.ctypes.data
    (arrived,) = Decoder(LIMITS).decode(batch)
    assert arrived.array.ctypes.data == start


def sent(**changes):
    """A batch of one good value, with some columns changed."""
    (value,) = logged("good", lambda r: r.log_image("x", np.zeros((2, 2, 3), np.uint8)))
    VALUES.pop("good")
    row = next(encode([value])).to_pylist()[0]
    described = json.loads(row["value"])
    for name, change in changes.items():
        if name in row:
            row[name] = change
        elif change is ...:
            described.pop(name, None)
        else:
            described[name] = change
    if "value" not in changes:
        row["value"] = json.dumps(described)
    return pa.RecordBatch.from_pylist([row], LOG)


def refusal(batch, limits=LIMITS):
    """Why a batch, or its value, is refused."""
    try:
        (refused,) = Decoder(limits).decode(batch)
    except WireError as e:
        return str(e)
    assert isinstance(refused, Refused)
    assert refused.seq == batch["seq"][0].as_py()
    return refused.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"producer": b"short"}, "a producer of 16 bytes"),
        ({"seq": -1}, "seq >= 0"),
        ({"size": 2**50}, "must be part 0"),
        ({"size": -1}, "must not have -1 bytes"),
        ({"size": 11}, "a value of 11 bytes must not come with 12"),
        ({"parts": 2}, "part 0 of 2, of 12 bytes, must be part 0"),
        ({"part": 1}, "part 1 of 1, of 12 bytes, must be part 0"),
        ({"value": None}, "a value must be described"),
        ({"value": "{"}, "what describes a value must be what LoggedValue says: JSONDecodeError"),
        ({"value": "[" * 100_000}, "what describes a value must be what LoggedValue says: RecursionError"),
        ({"value": "3"}, "what describes a value must be what LoggedValue says: TypeError"),
        ({"kind": "virus"}, "kind must be one of"),
        ({"kind": "points"}, "a value of kind 'points' must not have an array"),
        ({"kind": "depth"}, r"a value of kind 'depth' must not have the shape \(2, 2, 3\)"),
        ({"shape": [2, 2, 2]}, r"must not have the shape \(2, 2, 2\)"),
        ({"shape": [2, 3, 3]}, r"an array of uint8 \(2, 3, 3\) must not have 12 bytes"),
        ({"shape": [-2, -2, 3]}, "a shape must not be"),
        ({"shape": [2**40, 0, 3]}, "a shape must not be"),
        ({"shape": [True, 4, 3]}, "a size must be an integer of 64 bits, not True"),
        ({"array": "object"}, "dtype must be one of"),
        ({"array": "float32"}, "must not have 12 bytes"),
        ({"array": ...}, "a value of kind 'image' must not have a payload of 12 bytes"),
        ({"entity_path": 3}, "entity_path must be a string, not 3"),
        ({"entity_path": ...}, "KeyError: 'entity_path'"),
        ({"entity_path": "\ud800"}, "UnicodeEncodeError"),
        ({"time": {}}, "KeyError: 'sequences'"),
        ({"draw_order": "high"}, "draw_order must be a finite number, not 'high'"),
        ({"source_shape": [1] * 40}, "a shape must not be"),
    ],
)
def test_what_is_no_value_has_one_clear_error(changes, message):
    assert re.search(message, refusal(sent(**changes)))


def test_a_depth_image_needs_a_meter():
    depth = {"kind": "depth", "shape": [4, 3]}
    for meter, message in ((0, "finite and > 0 as float32, not 0"), ("x", "a finite number"), (..., "KeyError")):
        assert re.search(message, refusal(sent(**depth, meter=meter)))


def test_limits_are_kept():
    tight = Limits(value_bytes=11, text_bytes=10, batch_rows=1, timelines=1)
    assert "at most 11 bytes, not 12" in refusal(sent(), tight)
    assert "in at most 10 characters" in refusal(sent(), Limits(text_bytes=10))
    with pytest.raises(WireError, match="at most 1 rows, not 2"):
        list(Decoder(tight).decode(pa.Table.from_batches([sent(), sent()]).combine_chunks().to_batches()[0]))
    time = {"log_time": 1, "log_tick": 1, "timeless": False, "times": {}, "sequences": {"a": 1, "b": 2}}
    assert "at most 1 timelines" in refusal(sent(time=time), Limits(timelines=1))


def test_a_value_that_is_too_large_is_refused_part_by_part(monkeypatch):
    for module in (decoding, encoding):
        monkeypatch.setattr(module, "PART_BYTES", 1000)
    values = logged(
        "large", lambda recording: [recording.log_image("i", np.zeros((n, 10, 3), np.uint8)) for n in (99, 9)]
    )
    refused, arrived = received(values, Limits(value_bytes=2000))
    assert (refused.seq, refused.reason) == (0, "a value must have at most 2000 bytes, not 2970")
    assert_same(values[1], arrived)


def test_a_value_that_cannot_be_encoded_does_not_hold_back_those_before_it():
    values = list(logged("poison", lambda recording: [recording.log_cleared(f"c/{i}") for i in range(4)]))
    values[2] = replace(values[2], ext=object())
    batches = encode(values)
    assert next(batches).num_rows == 2
    with pytest.raises(UnsendableError, match="cannot be encoded: TypeError") as raised:
        next(batches)
    assert (raised.value.index, raised.value.refused.seq) == (2, 2)


def test_a_refused_value_costs_nothing_but_itself():
    decoder = Decoder(LIMITS)
    batches = [sent(), sent(kind="virus"), sent(array="object"), sent()]
    results = [result for batch in batches for result in decoder.decode(batch)]
    assert [type(result) for result in results] == [LoggedValue, Refused, Refused, LoggedValue]


def test_bad_offsets_do_not_get_further_than_the_check():
    two = pa.Table.from_batches([sent(), sent()]).combine_chunks().to_batches()[0]
    offsets = pa.py_buffer(np.array([0, 2**40, 24], np.int64))
    payload = pa.Array.from_buffers(pa.large_binary(), 2, [None, offsets, pa.py_buffer(b"x" * 24)])
    batch = pa.RecordBatch.from_arrays([payload, *two.columns[1:]], schema=LOG)
    with pytest.raises(WireError, match="a record batch must be valid"):
        list(Decoder(LIMITS).decode(batch))


@pytest.mark.parametrize("columns", [LOG.remove(6), LOG.append(pa.field("more", pa.int8())), pa.schema([])])
def test_other_columns_are_refused(columns):
    batch = pa.RecordBatch.from_pylist([], columns)
    with pytest.raises(WireError, match="the columns must be payload, producer, seq, part, parts, size, value"):
        list(Decoder(LIMITS).decode(batch))


def test_parts_must_follow_each_other(monkeypatch):
    for module in (decoding, encoding):
        monkeypatch.setattr(module, "PART_BYTES", 100)
    first, second = logged("two", lambda r: [r.log_depth_image("d", np.ones((1, 250), np.uint8)) for _ in range(2)])
    a, b = list(encode([first])), list(encode([second]))
    for order in ([a[0], a[2]], [a[0], a[0]], [a[1]], [a[0], b[1]], [a[0], a[1], b[2]], [a[0], sent()]):
        decoder = Decoder(LIMITS)
        with pytest.raises(WireError, match=r"must be part|must follow each other"):
            [list(decoder.decode(batch)) for batch in order]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_streams_give_values_or_a_wire_error(data):
    values = logged("damaged", log_everything)
    VALUES.pop("damaged")
    batch = next(encode([data.draw(st.sampled_from(values))]))
    row = batch.to_pylist()[0]
    junk = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3))
    described = json.loads(row["value"])
    for name in data.draw(st.lists(st.sampled_from([*described, "array", "shape", "points", "encoded"]), max_size=3)):
        described[name] = data.draw(junk)
    row["value"] = json.dumps(described)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, max(0, len(row["payload"]) - 1)))
        row["payload"] = row["payload"][:at] + data.draw(st.binary(max_size=4)) + row["payload"][at + 4 :]
        row["size"] = len(row["payload"])
    with contextlib.suppress(WireError):
        list(Decoder(LIMITS).decode(pa.RecordBatch.from_pylist([row], LOG)))
