"""Arguments that a log or time function does not know, and the compiler that must not trace it."""

import inspect
import subprocess
import sys
import types

import numpy as np
import pytest

import lumatile as lt

PIXELS = np.zeros((4, 4), np.uint8)

CALLS = {
    "log_image": ("a", PIXELS),
    "log_depth_image": ("a", PIXELS),
    "log_segmentation_image": ("a", PIXELS),
    "log_point": ("a", [0, 0]),
    "log_points": ("a", [[0, 0]]),
    "log_annotation_context": ("a", (1, "car")),
    "log_extension_components": ("a", {"x": 1}),
    "log_cleared": ("a",),
    "set_time_sequence": ("frame", 1),
    "set_time_seconds": ("sim", 1.5),
    "set_time_nanos": ("wall", 3),
    "reset_time": (),
}


def called(function, recording, way, *args, **kwargs):
    """Call the method, or the function with the recording as its argument or as the current one."""
    if way == "method":
        return getattr(recording, function)(*args, **kwargs)
    if way == "argument":
        return getattr(lt, function)(*args, **kwargs, recording=recording)
    with recording:
        return getattr(lt, function)(*args, **kwargs)


@pytest.mark.parametrize("way", ["method", "argument", "block"])
@pytest.mark.parametrize("function", CALLS)
def test_lenient_mode_warns_of_an_unknown_argument_and_logs(lenient, values, function, way):
    with pytest.warns(lt.LumatileWarning, match=rf"^{function} takes the arguments .*; left out: sparkle= ") as caught:
        assert called(function, lenient, way, *CALLS[function], sparkle=3) is None
    assert [warning.filename for warning in caught] == [__file__]
    assert lenient.errors == 1
    assert [value.error for value in values] == ([None] if function.startswith("log_") else [])
    lenient.log_point("p", [0, 0])
    times = {**values[-1].time.sequences, **values[-1].time.times}
    assert list(times) == ([CALLS[function][0]] if function.startswith("set_time") else [])


@pytest.mark.parametrize("way", ["method", "argument", "block"])
@pytest.mark.parametrize("function", CALLS)
def test_strict_mode_raises_for_an_unknown_argument_and_logs_nothing(strict, values, function, way):
    with pytest.raises(lt.InvalidTypeError, match=rf"{function} takes the arguments .*; left out: sparkle= "):
        called(function, strict, way, *CALLS[function], sparkle=3)
    assert strict.errors == 1
    assert not values


def test_too_many_and_too_few_arguments_are_borne_too(lenient, values):
    with pytest.warns(lt.LumatileWarning, match=r"left out: 'more', 5 "):
        lenient.log_image("a", PIXELS, "more", 5)
    with pytest.warns(lt.LumatileWarning, match=r"left out: entity_path= .*multiple values"):
        lenient.log_points("a", entity_path="b")
    with pytest.warns(lt.LumatileWarning, match="image must be an array of numbers, not None"):
        lenient.log_image("a")
    with pytest.warns(lt.LumatileWarning, match="entity path must be a string, not None"):
        lenient.log_image(image=PIXELS)
    assert [(value.entity_path, value.error is None) for value in values] == [
        ("a", True),
        ("a", True),
        ("a", False),
        ("", False),
    ]


@pytest.mark.parametrize("function", ["set_time_sequence", "set_time_seconds", "set_time_nanos"])
def test_a_time_that_is_missing_changes_nothing(lenient, strict, values, function):
    getattr(lenient, function)("t", 1)
    with pytest.warns(lt.LumatileWarning, match=f"{function} needs (sequence|seconds|nanos): nothing was done"):
        getattr(lenient, function)("t")
    lenient.log_point("p", [0, 0])
    assert list({**values[0].time.sequences, **values[0].time.times}) == ["t"]
    with pytest.raises(lt.InvalidTypeError, match="needs "):
        getattr(strict, function)("t")


def test_what_is_no_recording_is_left_out_whatever_it_is(lenient, values):
    with pytest.warns(lt.LumatileWarning, match="left out: recording="):
        lenient.log_image("a", PIXELS, recording=PIXELS)
    assert len(values) == 1


def test_another_recording_by_position_is_refused(lenient, strict, values):
    with pytest.warns(lt.LumatileWarning, match="logs to that recording"):
        lenient.set_time_sequence("frame", 1, strict)
    with pytest.raises(lt.InvalidTypeError, match="logs to that recording"):
        strict.log_image("a", PIXELS, lenient)
    lenient.log_point("p", [0, 0])
    assert [dict(value.time.sequences) for value in values] == [{}]


def test_an_error_within_the_call_is_not_taken_for_an_unknown_argument(lenient, strict, monkeypatch):
    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(type(lenient), "log_value", broken)
    for recording in (lenient, strict):
        with pytest.raises(TypeError, match=r"^a bug$"):
            recording.log_image("a", PIXELS)


def test_without_a_recording_an_unknown_argument_does_nothing():
    with pytest.warns(lt.LumatileWarning, match="there is no recording here"):
        lt.log_image("a", PIXELS, sparkle=1)


@pytest.mark.parametrize("function", CALLS)
def test_the_signature_is_what_it_takes(function):
    parameters = inspect.signature(getattr(lt, function)).parameters
    assert {"args", "kwargs"}.isdisjoint(parameters)
    assert "recording" in parameters


@pytest.mark.parametrize("function", ["set_time_sequence", "set_time_seconds", "set_time_nanos"])
def test_a_time_takes_its_recording_by_position(lenient, values, function):
    getattr(lt, function)("t", 1, lenient)
    lenient.log_point("p", [0, 0])
    assert list({**values[0].time.sequences, **values[0].time.times}) == ["t"]


def test_the_compiler_of_torch_is_kept_away_from_log_and_time_functions(strict, values, monkeypatch):
    untraced = []

    def disable(function):
        def run(*args, **kwargs):
            untraced.append(function.__qualname__)
            return function(*args, **kwargs)

        return run

    monkeypatch.setitem(sys.modules, "torch._dynamo", types.SimpleNamespace(disable=disable))
    monkeypatch.setattr("lumatile.log.arguments._UNTRACED", {})
    lt.log_image("a", PIXELS, recording=strict)
    strict.set_time_sequence("frame", 1)
    assert untraced == ["log_image", "RecordingStream.log_image", "RecordingStream.set_time_sequence"]
    with pytest.raises(lt.InvalidTypeError, match="left out: sparkle="):
        strict.log_image("a", PIXELS, sparkle=1)
    assert len(values) == 1


def test_a_function_that_torch_compiles_can_log():
    pytest.importorskip("torch")
    code = """
import torch, lumatile as lt
from lumatile.sink.memory import VALUES
recording = lt.init("compiled", sink="memory://compiled", strict=True)
@torch.compile(backend="eager")
def step(x):
    y = x.sigmoid()
    lt.set_time_sequence("step", 1)
    lt.log_image("y", y)
    recording.log_points("p", y[:, :3])
    return y.sum()
for _ in range(3):
    step(torch.rand(8, 8))
assert [value.kind for value in VALUES["compiled"]] == ["image", "points"] * 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
