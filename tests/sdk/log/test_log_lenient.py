"""A wrong call, lenient and strict: one message, one error row, and nothing that stops a training step."""

import contextlib
import datetime as dt
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lumatile as lt
from lumatile.sink.memory import VALUES
from lumatile.values import LoggedValue

PIXELS = np.zeros((4, 4), np.uint8)

BAD = {
    "image": lambda r: r.log_image("a", np.zeros((4, 4, 7), np.uint8)),
    "image dtype": lambda r: r.log_image("a", np.zeros((4, 4))[..., np.newaxis] + 1j),
    "none": lambda r: r.log_image("a", None),
    "file": lambda r: r.log_image_file("a", img_path="no such file"),
    "depth": lambda r: r.log_depth_image("a", PIXELS, meter=-1),
    "segmentation": lambda r: r.log_segmentation_image("a", PIXELS + 0.5),
    "points": lambda r: r.log_points("a", [[1, 2], [3]]),
    "point": lambda r: r.log_point("a", [1, 2, 3], class_id=-1),
    "context": lambda r: r.log_annotation_context("a", 5),
    "extension": lambda r: r.log_extension_components("a", {"x": object()}),
    "no extension": lambda r: r.log_extension_components("a", None),
    "identifiers": lambda r: r.log_extension_components("a", {}, identifiers=-1),
    "ext": lambda r: r.log_image("a", PIXELS, ext=[1]),
    "draw order": lambda r: r.log_image("a", PIXELS, draw_order="top"),
    "path": lambda r: r.log_image("a/../b", PIXELS),
    "clear": lambda r: r.log_cleared(""),
    "timeless": lambda r: r.log_image("a", PIXELS, timeless=np.zeros(3)),
}
KINDS = {
    "none": "image",
    "image dtype": "image",
    "file": "image",
    "context": "annotation_context",
    "extension": "ext",
    "no extension": "ext",
    "identifiers": "ext",
    "ext": "image",
    "draw order": "image",
    "path": "image",
    "timeless": "image",
    "point": "points",
}


@pytest.mark.parametrize("bad", BAD)
def test_a_wrong_call_warns_once_is_counted_and_leaves_an_error_row(lenient, values, bad):
    lenient.log_point("before", [0, 0])
    with pytest.warns(lt.LumatileWarning) as caught:
        BAD[bad](lenient)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert lenient.errors == 1
    lenient.log_point("after", [0, 0])
    row = values[1]
    message = str(caught[0].message)
    assert message.startswith(f"{row.kind} at ")
    assert message.endswith(f": {row.error}")
    assert not row.error.startswith(f"{row.kind} at ")
    assert row.kind == KINDS.get(bad, bad)
    assert row.entity_path == ("" if bad in ("path", "clear") else "a")
    assert (row.array, row.points, row.encoded, row.body, row.ext) == (None,) * 5
    assert [value.error for value in (values[0], values[2])] == [None, None]
    assert [value.seq for value in values] == [0, 1, 2]


def test_an_error_row_says_the_reason_alone(lenient, values):
    messages = []
    for path in ("site: A/cam", "/cam/", "cam"):
        with pytest.warns(lt.LumatileWarning) as caught:
            lenient.log_image(path, np.zeros((2, 2, 7), np.uint8))
        messages.append(str(caught[0].message))
    assert [value.entity_path for value in values] == ["site: A/cam", "cam", "cam"]
    (reason,) = {value.error for value in values}
    assert reason.startswith("image must be ")
    assert messages == [f"image at {path!r}: {reason}" for path in ("site: A/cam", "/cam/", "cam")]


@pytest.mark.parametrize("bad", BAD)
def test_a_wrong_call_raises_in_strict_mode_and_leaves_nothing(strict, values, bad):
    with pytest.raises(lt.LumatileError) as caught:
        BAD[bad](strict)
    assert isinstance(caught.value, ValueError | TypeError | OSError)
    assert strict.errors == 1
    strict.log_point("after", [0, 0])
    assert [value.entity_path for value in values] == ["after"]


def test_strict_mode_can_be_switched(lenient, values):
    lenient.set_strict_mode(True)
    with pytest.raises(ValueError, match="HxW"):
        lenient.log_image("a", np.zeros(3, np.uint8))
    lenient.set_strict_mode(False)
    with pytest.warns(lt.LumatileWarning, match="HxW"):
        lenient.log_image("a", np.zeros(3, np.uint8))
    assert len(values) == 1


class Malicious:
    """Fails in everything that a library may ask of an object."""

    def _fail(self, *_, **__):
        raise RuntimeError("\ud800 no")

    __array__ = __dlpack__ = __dlpack_device__ = __iter__ = __len__ = __repr__ = __str__ = __bool__ = _fail
    __index__ = __float__ = __int__ = __getitem__ = __fspath__ = __eq__ = __hash__ = _fail


class Liar:
    """Claims to be an array larger than any memory."""

    def __init__(self):
        self.__array_interface__ = {"shape": (2**40, 2**20), "typestr": "|u1", "data": (0, True), "version": 3}


class UnreadableError(Exception):
    def __str__(self):
        raise ValueError


class FailsUnreadably:
    def __array__(self, dtype=None, copy=None):
        raise UnreadableError


RAGGED = [[1, 2], [3], [[4]]]
CYCLE: list[object] = []
CYCLE.append(CYCLE)

OBJECTS = [
    *(Malicious(), Liar(), FailsUnreadably(), RAGGED, CYCLE, Malicious, object(), None, ..., NotImplemented),
    *({}, {"a": CYCLE}, {1: 2}, set(), range(3), np.ma.masked, np.array(None), np.array([{}, 1])),
    *(np.zeros((0, 3)), np.zeros((3, 0, 3)), np.array(5), np.zeros((1,) * 60), np.datetime64("nat")),
    *(np.zeros(2, "i4,f4"), np.array(["a"]), np.float16("nan"), np.broadcast_to(np.uint8(1), (2**40, 2**20))),
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", memoryview(b"ab"), lambda: 5, float("nan"), 10**400, -0.0),
]

THINGS = st.one_of(
    st.integers(0, len(OBJECTS) - 1).map(lambda i: OBJECTS[i]),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(max_size=20),
    st.lists(st.floats() | st.integers() | st.none() | st.text(max_size=2), max_size=4),
    st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), max_size=4),
    st.dictionaries(st.text(max_size=3), st.floats() | st.none() | st.booleans()),
)

OPTIONS = {
    "log_image": ("draw_order", "ext", "timeless"),
    "log_depth_image": ("meter", "draw_order", "ext"),
    "log_segmentation_image": ("draw_order", "ext", "timeless"),
    "log_point": ("radius", "color", "label", "class_id", "keypoint_id", "draw_order", "ext", "timeless"),
    "log_points": ("identifiers", "colors", "radii", "labels", "class_ids", "keypoint_ids", "ext"),
    "log_image_file": ("img_bytes", "img_path", "img_format", "timeless"),
    "log_annotation_context": ("timeless",),
    "log_extension_components": ("identifiers", "timeless"),
    "log_cleared": ("recursive",),
    "set_time_sequence": (),
    "set_time_seconds": (),
    "set_time_nanos": (),
}
POSITIONAL = {"log_image_file": 1, "log_cleared": 1}


def check(value):
    """What every sink relies on."""
    assert isinstance(value, LoggedValue)
    for text in (value.entity_path, value.ext, value.body, value.error):
        assert text is None or text.encode() is not None
    assert value.ext is None or isinstance(json.loads(value.ext), dict)
    if value.error is None and value.array is not None:
        assert value.array.flags.c_contiguous
        assert value.array.dtype.isnative
        assert value.array.ndim == (3 if value.kind == "image" else 2)
    if value.points is not None:
        n = len(value.points)
        for column in ("colors", "radii", "class_ids", "keypoint_ids", "identifiers", "labels"):
            assert getattr(value.points, column) is None or len(getattr(value.points, column)) == n


@settings(max_examples=400, deadline=None)
@given(data=st.data(), function=st.sampled_from(sorted(OPTIONS)))
def test_whatever_is_passed_lenient_mode_never_raises(data, function):
    recording = lt.new_recording("fuzz", sink="memory://fuzz")
    arguments = [data.draw(st.just("a") | THINGS) for _ in range(POSITIONAL.get(function, 2))]
    options = {name: data.draw(THINGS) for name in OPTIONS[function] if data.draw(st.booleans())}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(recording, function)(*arguments, **options)
    try:
        assert all(issubclass(warning.category, lt.LumatileWarning) for warning in caught)
        assert len(VALUES["fuzz"]) == function.startswith("log_")
        assert recording.errors == sum(value.error is not None for value in VALUES["fuzz"]) or not VALUES["fuzz"]
        for value in VALUES["fuzz"]:
            check(value)
        assert recording.lost == 0
    finally:
        recording.disconnect()
        VALUES.pop("fuzz", None)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), function=st.sampled_from(sorted(OPTIONS)))
def test_whatever_is_passed_strict_mode_raises_nothing_but_its_own_errors(data, function):
    recording = lt.new_recording("fuzz", sink="memory://fuzz", strict=True)
    arguments = [data.draw(st.just("a") | THINGS) for _ in range(POSITIONAL.get(function, 2))]
    options = {name: data.draw(THINGS) for name in OPTIONS[function] if data.draw(st.booleans())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(lt.LumatileError):
            getattr(recording, function)(*arguments, **options)
    recording.disconnect()
    assert len(VALUES.pop("fuzz", [])) == (function.startswith("log_") and not recording.errors)


@pytest.mark.parametrize(
    ("ext", "stored"),
    [
        ({}, {}),
        ({"a": 1, "b": 1.5, "c": "ü", "d": None, "e": True}, {"a": 1, "b": 1.5, "c": "ü", "d": None, "e": True}),
        ({"a": np.float32(0.5), "b": np.int64(7), "c": np.bool_(True)}, {"a": 0.5, "b": 7, "c": True}),
        ({"a": np.arange(4).reshape(2, 2)}, {"a": [[0, 1], [2, 3]]}),
        ({"a": (1, [2, {"b": np.zeros(1)}])}, {"a": [1, [2, {"b": [0.0]}]]}),
        (
            {"a": dt.datetime(2020, 1, 2, 3), "b": dt.date(2020, 1, 2), "c": np.datetime64(5, "ns")},  # noqa: DTZ001
            {"a": "2020-01-02T03:00:00", "b": "2020-01-02", "c": "1970-01-01T00:00:00.000000005"},
        ),
        ({"a": np.array([["2020", "NaT"]], "M8[ns]")}, {"a": [["2020-01-01T00:00:00.000000000", "NaT"]]}),
        ({"a": float("nan"), "b": np.array([np.inf, -np.inf])}, {"a": "NaN", "b": ["Infinity", "-Infinity"]}),
    ],
)
def test_extension_components_are_kept_as_json(strict, values, ext, stored):
    strict.log_extension_components("a", ext, identifiers=[5, 2**63], timeless=True)
    strict.log_image("a", PIXELS, ext=ext)
    for value in values:
        assert json.loads(value.ext) == stored
    assert (values[0].kind, values[0].time.timeless) == ("ext", True)
    assert json.loads(values[0].body) == {"identifiers": [5, 2**63]}


@pytest.mark.parametrize(
    "ext",
    [
        *({"a": object()}, {"a": {1: 2}}, {"a": b"x"}, {"a": 1j}, {"a": {1, 2}}, {"a": CYCLE}, 5),
        *({"a": np.timedelta64(5, "ns")}, {"a": np.array([5], "m8[ns]")}, {"a": dt.timedelta(1)}),
    ],
)
def test_what_has_no_json_is_refused(strict, ext):
    with pytest.raises(lt.LumatileError, match="ext"):
        strict.log_extension_components("a", ext)


def test_clears_are_values_too(strict, values):
    strict.log_cleared("a/b")
    strict.log_cleared("/", recursive=True)
    assert [(value.kind, value.entity_path, value.recursive) for value in values] == [
        ("clear", "a/b", False),
        ("clear", "", True),
    ]
