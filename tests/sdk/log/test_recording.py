"""Recordings: which one a call goes to, where its values go, and what is told when they don't get there.

Longer than other files: its tests share the sinks that break.
"""

import contextlib
import copy
import inspect
import pickle
import threading
import uuid

import numpy as np
import pytest

import lumatile as lt
from lumatile.errors import SinkError
from lumatile.log import current
from lumatile.sink import sinks
from lumatile.sink.memory import VALUES, MemorySink


@pytest.fixture(autouse=True)
def _no_current_recording(monkeypatch, tmp_path):
    monkeypatch.delenv("LUMATILE_SINK", raising=False)
    monkeypatch.delenv("LUMATILE_RECORDING_ID", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    lt.set_global_data_recording(None)
    lt.set_thread_local_data_recording(None)


class BrokenSink(MemorySink):
    """Takes values until it breaks; then nothing of what it has is durable."""

    def __init__(self, values):
        super().__init__(values)
        self.broken = False
        self.closed = False

    def put(self, value):
        if self.broken:
            raise SinkError("the pipeline died: on purpose")
        super().put(value)

    def flush(self, timeout=None):
        if self.broken:
            raise lt.FlushError(len(self._values), "on purpose")
        return "spool"

    def close(self, timeout=None):
        self.closed = True
        self.flush(timeout)
        super().close(timeout)


@pytest.fixture
def opened(monkeypatch):
    """URL -> the sink that was opened for it; scheme broken://."""
    opened = {}
    really_open = sinks.open_sink

    def open_sink(url, settings, *, backend=None):
        if not url.startswith("broken:"):
            return really_open(url, settings, backend=backend)
        if "refuses" in url:
            raise SinkError(f"{url} cannot be written")
        if "bug" in url:
            raise RuntimeError("a bug in the sink")
        opened[url] = BrokenSink(VALUES[url])
        opened[url].backend = backend
        return opened[url]

    monkeypatch.setattr(sinks, "open_sink", open_sink)
    yield opened
    for url in opened:
        VALUES.pop(url, None)


def paths(name):
    return [value.entity_path for value in VALUES[name]]


# which recording


def test_explicit_before_thread_before_global(name):
    recordings = {
        which: lt.new_recording("tests", sink=f"memory://{name}-{which}") for which in ("explicit", "thread", "global")
    }
    assert lt.set_global_data_recording(recordings["global"]) is None
    lt.log_point("1", [0, 0])
    assert lt.set_thread_local_data_recording(recordings["thread"]) is None
    lt.log_point("2", [0, 0])
    lt.log_point("3", [0, 0], recording=recordings["explicit"])
    recordings["explicit"].log_point("4", [0, 0])
    assert lt.set_thread_local_data_recording(None) is recordings["thread"]
    lt.log_point("5", [0, 0])
    assert paths(f"{name}-explicit") == ["3", "4"]
    assert paths(f"{name}-thread") == ["2"]
    assert paths(f"{name}-global") == ["1", "5"]
    assert lt.set_global_data_recording(None) is recordings["global"]


def test_another_thread_has_the_global_one(strict):
    lt.set_thread_local_data_recording(strict)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(lt.get_data_recording()))
    thread.start()
    thread.join()
    assert seen == [None]


CALLS = {
    "log_image": ("x", np.zeros((2, 2), np.uint8)),
    "log_image_file": ("x",),
    "log_depth_image": ("x", np.zeros((2, 2), np.uint8)),
    "log_segmentation_image": ("x", np.zeros((2, 2), np.uint8)),
    "log_point": ("x",),
    "log_points": ("x",),
    "log_annotation_context": ("x", []),
    "log_extension_components": ("x", {}),
    "log_cleared": ("x",),
    "set_time_sequence": ("x", 1),
    "set_time_seconds": ("y", 1),
    "set_time_nanos": ("y", 1),
    "reset_time": (),
}


@pytest.mark.parametrize("function", CALLS)
def test_without_a_recording_every_call_warns_and_does_nothing(function):
    for options in ({}, {"recording": "a name"}):
        with pytest.warns(lt.LumatileWarning, match="nothing was done: ") as caught:
            assert getattr(lt, function)(*CALLS[function], **options) is None
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("function", "arguments"),
    [("save", ["x"]), ("connect", ["memory://x"]), ("disconnect", []), ("flush", []), ("set_strict_mode", [True])],
)
def test_without_a_recording_managing_it_warns(function, arguments):
    with pytest.warns(lt.LumatileWarning, match="there is no recording here"):
        getattr(lt, function)(*arguments)


@pytest.mark.parametrize("function", CALLS)
def test_a_method_is_the_function_of_its_recording_and_of_no_other(strict, lenient, values, function):
    method = getattr(lt.RecordingStream, function)
    assert inspect.isfunction(method)
    assert method.__doc__
    own, of_the_package = (inspect.signature(f).parameters for f in (method, getattr(lt, function)))
    given = {name: p for name, p in of_the_package.items() if name != "recording"}
    assert {name: p for name, p in own.items() if name != "self"} == given
    with pytest.raises(lt.InvalidTypeError, match=rf"{function} of a recording logs to that recording: call it on the"):
        getattr(strict, function)(*CALLS[function], recording=lenient)
    with pytest.warns(lt.LumatileWarning, match=rf"or lumatile\.{function}; nothing was logged") as caught:
        getattr(lenient, function)(*CALLS[function], recording=strict)
    assert caught[0].filename == __file__
    assert not values
    for nothing_else in (None, strict):
        with pytest.raises(lt.InvalidValueError) if function == "log_image_file" else contextlib.nullcontext():
            getattr(strict, function)(*CALLS[function], recording=nothing_else)


def test_a_block_makes_it_the_threads_recording_restores_and_flushes(name, opened):
    outer, inner = (lt.new_recording("tests", sink=url) for url in (f"memory://{name}", "broken://inner"))
    with outer:
        with inner as same:
            assert same is inner
            with inner:
                assert lt.get_thread_local_data_recording() is inner
            lt.log_point("in", [0, 0])
            assert lt.get_data_recording() is inner
        assert lt.get_data_recording() is outer
        opened["broken://inner"].broken = True
        with pytest.raises(lt.FlushError), inner:
            pass
        assert lt.get_data_recording() is outer
        with pytest.warns(lt.LumatileWarning, match="on purpose"), pytest.raises(KeyError), inner:
            raise KeyError
        assert lt.get_data_recording() is outer
    assert lt.get_data_recording() is None
    assert paths("broken://inner") == ["in"]
    with pytest.raises(lt.FlushError):
        inner.disconnect()


# how it starts


def test_init_makes_it_global_and_leaves_the_one_before_open(name, values):
    first = lt.init("app", "run", sink=f"memory://{name}")
    assert lt.get_global_data_recording() is first
    assert (first.application_id, first.recording_id) == ("app", "run")
    second = lt.init("app", sink=f"memory://{name}")
    assert lt.get_global_data_recording() is second
    first.log_point("first", [0, 0])
    lt.log_point("second", [0, 0])
    assert [value.producer for value in values] == [first._producer, second._producer]
    assert first._producer != second._producer


def test_the_id_is_the_given_one_else_the_environments_else_new(monkeypatch):
    assert lt.new_recording("app", "given").recording_id == "given"
    ids = {lt.new_recording("app").recording_id for _ in range(3)}
    assert len(ids) == 3
    assert all(uuid.UUID(id_) for id_ in ids)
    monkeypatch.setenv("LUMATILE_RECORDING_ID", "shared")
    assert lt.new_recording("app").recording_id == "shared"
    assert lt.new_recording("app", "given").recording_id == "given"


def test_settings_go_to_the_sink(opened):
    settings = {
        "strict": True,
        "tile_format": "srgb8",
        "keep_source": False,
        "compression": "zstd",
        "float_colors": "srgb",
        "queue_bytes": 5,
        "queue_policy": "drop_oldest",
        "max_block": None,
        "pixel_limit": 7,
    }
    for start in (lt.init, lt.new_recording):
        made = start("app", sink="broken://x", **settings)
        assert {key: getattr(made.settings, key) for key in settings} == settings
        with pytest.raises(ValueError, match="tile_format must be one of"):
            start("app", tile_format="jpeg")
        for application_id in ("", "a\0b", "\ud800", None, 5):
            with pytest.raises(ValueError, match="application_id must be a non-empty string"):
                start(application_id)
        for max_block in (-1, float("nan"), "5"):
            with pytest.raises(ValueError, match="max_block must be None or seconds >= 0"):
                start("app", max_block=max_block)
        made.disconnect()
    assert list(opened) == ["broken://x"]


def test_the_default_sink_opens_at_the_first_value(monkeypatch, opened):
    monkeypatch.setenv("LUMATILE_SINK", "broken://environment")
    made = lt.init("app")
    assert not opened
    assert lt.flush() == "store"
    lt.log_point("p", [0, 0])
    assert paths("broken://environment") == ["p"]
    assert lt.flush() == "spool"
    made.disconnect()


def test_the_last_default_is_a_store_in_the_current_directory(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(sinks, "open_sink", lambda url, *_, **__: asked.append(url) or MemorySink([]))
    made = lt.init("app")
    lt.log_point("p", [0, 0])
    assert asked == [str(tmp_path / "lumatile-store")]
    made.disconnect()


def test_a_backend_is_refused_where_no_store_is_written_here(name):
    made = lt.new_recording("app")
    with pytest.raises(ValueError, match="backend must be left out where no store is written here, not 'numpy' for"):
        made.save(f"memory://{name}", backend="numpy")


def test_a_sink_that_cannot_be_opened_is_said_at_the_start(opened):
    for options in ({"strict": True}, {"strict": False}):
        with pytest.raises(SinkError, match="broken://refuses cannot be written"):
            lt.new_recording("app", sink="broken://refuses", **options)
        with pytest.raises(SinkError, match=r"'broken://bug' cannot be opened: RuntimeError: a bug in the sink"):
            lt.new_recording("app", sink="broken://bug", **options)
        with pytest.raises(ValueError, match="sink must be a path or a URL with a scheme in"):
            lt.new_recording("app", sink="nosuch://x", **options)
        with pytest.raises(TypeError, match="a sink must be a path or a URL, not 5"):
            lt.new_recording("app", sink=5, **options)
    assert not opened


# where values go


def test_values_are_numbered_from_0_without_holes_whatever_they_are(lenient, values):
    lenient.log_point("a", [0, 0])
    with pytest.warns(lt.LumatileWarning):
        lenient.log_point("../b", [0, 0])
    lenient.log_cleared("a")
    lenient.log_extension_components("a", {"x": 1})
    lenient.log_annotation_context("/", (1, "x"))
    assert [value.seq for value in values] == [value.time.log_tick for value in values] == list(range(5))
    assert {value.producer for value in values} == {values[0].producer}
    assert len(values[0].producer) == 16


def test_many_threads_may_log_to_one_recording(strict, values):
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        for step in range(100):
            strict.set_time_sequence("step", step)
            strict.log_image(f"thread/{number}", np.full((3, 3), number, np.uint8))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(value.seq for value in values) == list(range(800))
    for number in range(8):
        own = [value for value in values if value.entity_path == f"thread/{number}"]
        assert [value.time.sequences["step"] for value in own] == list(range(100))
        assert [value.seq for value in own] == sorted(value.seq for value in own)
        assert {int(value.array.max()) for value in own} == {number}


def test_save_and_connect_close_the_sink_before(opened, name):
    made = lt.init("app", sink="broken://first")
    lt.log_point("1", [0, 0])
    lt.connect(f"memory://{name}")
    assert opened["broken://first"].closed
    lt.log_point("2", [0, 0])
    lt.save("broken://third", backend="numpy")
    lt.log_point("3", [0, 0])
    assert (paths("broken://first"), paths(name), paths("broken://third")) == (["1"], ["2"], ["3"])
    assert opened["broken://third"].backend == "numpy"
    assert [VALUES[key][0].seq for key in ("broken://first", name, "broken://third")] == [0, 1, 2]
    made.disconnect()
    assert opened["broken://third"].closed


def test_a_sink_that_loses_values_when_it_is_left_is_told_of_and_the_next_is_open(opened, name):
    made = lt.new_recording("app", sink="broken://first")
    made.log_point("1", [0, 0])
    opened["broken://first"].broken = True
    with pytest.raises(lt.FlushError) as caught:
        made.connect(f"memory://{name}")
    assert caught.value.undelivered == 1
    made.log_point("2", [0, 0])
    assert paths(name) == ["2"]
    assert made.flush() == "store"
    made.disconnect()


def test_threads_that_log_while_the_sink_changes_lose_nothing(strict, values, name):
    done = threading.Event()

    def work():
        while not done.is_set():
            strict.log_point("p", [0, 0])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        strict.connect(f"memory://{name}")
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(value.seq for value in values) == list(range(len(values)))


# what does not get there


def test_a_sink_that_died_is_loud_in_every_call_and_in_flush(opened):
    made = lt.new_recording("app", sink="broken://x")
    made.log_point("1", [0, 0])
    opened["broken://x"].broken = True
    for _ in range(2):
        with pytest.warns(lt.LumatileWarning, match="a value was lost: the pipeline died: on purpose") as caught:
            made.log_point("2", [0, 0])
        assert caught[0].filename == __file__
    assert (made.lost, made.errors) == (2, 0)
    with pytest.raises(lt.FlushError, match=r"^3 logged values are not durable: on purpose$") as flushed:
        made.flush()
    assert flushed.value.undelivered == 3
    made.set_strict_mode(True)
    with pytest.raises(SinkError, match="the pipeline died"):
        made.log_point("3", [0, 0])
    with pytest.raises(lt.FlushError):
        made.disconnect()


def test_a_default_sink_that_cannot_be_opened_is_a_warning_until_there_is_another(monkeypatch, opened, name):
    monkeypatch.setenv("LUMATILE_SINK", "broken://refuses")
    made = lt.init("app")
    for _ in range(2):
        with pytest.warns(lt.LumatileWarning, match="a value was lost: broken://refuses cannot be written"):
            lt.log_point("1", [0, 0])
    with pytest.raises(lt.FlushError, match="2 logged values are not durable: broken://refuses cannot be written"):
        lt.flush()
    with pytest.warns(lt.LumatileWarning, match="a value was lost"):
        lt.log_point("1", [0, 0])
    with pytest.raises(lt.FlushError) as caught:
        lt.connect(f"memory://{name}")
    assert caught.value.undelivered == 1
    lt.log_point("2", [0, 0])
    assert paths(name) == ["2"]
    made.disconnect()
    assert not opened


def test_a_bug_in_a_sink_is_a_sink_error(opened, monkeypatch):
    made = lt.new_recording("app", sink="broken://x", strict=True)
    monkeypatch.setattr(opened["broken://x"], "put", lambda _: 1 / 0)
    with pytest.raises(SinkError, match="ZeroDivisionError"):
        made.log_point("1", [0, 0])
    made.set_strict_mode(False)
    with pytest.warns(lt.LumatileWarning, match="a value was lost: ZeroDivisionError"):
        made.log_point("1", [0, 0])
    with pytest.raises(lt.FlushError, match="2 logged values are not durable: ZeroDivisionError"):
        made.disconnect()


def test_after_disconnect_values_are_lost_and_said_so(strict, lenient, values):
    for made in (strict, lenient):
        made.log_point("1", [0, 0])
        made.disconnect()
        assert made.flush() == "store"
    with pytest.raises(SinkError, match="the recording is disconnected; save or connect it first"):
        strict.log_point("2", [0, 0])
    with pytest.warns(lt.LumatileWarning, match="a value was lost: the recording is disconnected"):
        lenient.log_point("2", [0, 0])
    with pytest.raises(lt.FlushError, match="1 logged values are not durable: the recording is disconnected"):
        lenient.flush()
    with pytest.raises(lt.FlushError):
        strict.flush()
    assert len(values) == 2


def test_module_functions_act_on_the_current_recording(opened):
    made = lt.new_recording("app")
    with made:
        lt.save("broken://x")
        lt.set_strict_mode(True)
        assert made.settings.strict
        assert lt.flush(timeout=1) == "spool"
        lt.disconnect()
    assert opened["broken://x"].closed


# elsewhere


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_recording_that_travels_is_a_stream_of_its_own_into_the_same_sink(strict, values, travel):
    other = travel(strict)
    assert other.settings == strict.settings
    strict.log_point("a", [0, 0])
    other.log_point("b", [0, 0])
    assert [value.entity_path for value in values] == ["a", "b"]
    assert [value.seq for value in values] == [0, 0]
    assert values[0].producer != values[1].producer
    other.disconnect()


def test_a_logged_value_can_travel(strict, values):
    strict.log_image("a", np.arange(6, dtype=np.uint8).reshape(2, 3))
    strict.log_points("b", np.ones((2, 3)), labels="x")
    image, points = (pickle.loads(pickle.dumps(value)) for value in values)
    np.testing.assert_array_equal(image.array, values[0].array)
    assert points.points.labels == ["x", "x"]


def test_leaving_a_block_is_each_threads_own(strict, lenient):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with lenient:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with strict:
        thread.start()
        inside.wait()
        assert current.get_data_recording() is strict
    assert lt.get_data_recording() is None
    leave.set()
    thread.join()
