"""What programs that were written for Rerun's API call exists here, or its error says what to write instead."""

import ast
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from skimage import data

import lumatile as lt
from lumatile.replaced import REPLACED
from lumatile.sink.memory import VALUES

PAGE = Path(__file__).parents[3] / "docs" / "from-rerun.md"


@pytest.fixture(autouse=True)
def _no_current_recording():
    yield
    lt.set_thread_local_data_recording(None)
    lt.set_global_data_recording(None)


@pytest.mark.parametrize("name", REPLACED)
def test_a_name_that_is_not_there_says_what_to_write_instead(name):
    assert name not in lt.__all__
    with pytest.raises(AttributeError, match=f"'lumatile' has no attribute '{name}': .*from-rerun.md"):
        getattr(lt, name)
    assert not hasattr(lt, name)


def test_the_page_names_what_is_there_and_what_is_not():
    text = PAGE.read_text()
    for name in ("spawn", "default_enabled", "memory_recording", "script_add_args", "jpeg_quality", "make_default"):
        assert name in text
    for name in lt.__all__:
        ast.parse(name)
    assert {"Tensor", "Color", "Colors", "OptionalClassIds", "OptionalKeyPointIds"} <= set(lt.__all__)


def test_spawn_warns_that_there_is_no_viewer_and_goes_on(name):
    with pytest.warns(lt.LumatileWarning, match="no viewer to spawn: .*lumatile export") as caught:
        lt.init("app", sink=f"memory://{name}", spawn=True)
    assert caught[0].filename == __file__
    lt.log_point("p", [0, 0])
    assert len(VALUES[name]) == 1


def test_a_recording_that_is_not_enabled_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not lt.is_enabled()
    recording = lt.init("app", "run", sink=tmp_path / "store", default_enabled=False)
    lt.log_point("p", [0, 0])
    assert lt.flush() == "store"
    assert (lt.is_enabled(), lt.is_enabled(recording), recording.enabled) == (False, False, False)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("LUMATILE_SINK", "off://")
    assert not lt.is_enabled(lt.new_recording("app"))
    lt.save(tmp_path / "store")
    assert lt.is_enabled()
    lt.disconnect()


def test_ids_are_those_of_the_recording(name):
    assert (lt.get_application_id(), lt.get_recording_id()) == (None, None)
    lt.init("app", "run", sink=f"memory://{name}")
    other = lt.new_recording("other", "run 2", sink=f"memory://{name}")
    assert (lt.get_application_id(), lt.get_recording_id()) == ("app", "run")
    assert (lt.get_application_id(other), lt.get_recording_id(other)) == ("other", "run 2")
    assert lt.is_enabled(other)


def test_a_new_recording_may_become_the_default(name):
    made = lt.new_recording("app", sink=f"memory://{name}", make_default=True)
    assert lt.get_global_data_recording() is made
    own = lt.new_recording("app", sink=f"memory://{name}", make_thread_default=True)
    assert (lt.get_data_recording(), lt.get_global_data_recording()) == (own, made)


def test_a_sink_is_managed_by_functions_with_a_recording(tmp_path):
    current, other = (lt.new_recording("app", each, sink=tmp_path / "first") for each in ("a", "b"))
    lt.set_global_data_recording(current)
    lt.save(tmp_path / "second", recording=other)
    lt.set_strict_mode(True, recording=other)
    assert (current.settings.strict, other.settings.strict) == (False, True)
    other.log_point("p", [0, 0])
    assert lt.flush(recording=other) == "store"
    lt.disconnect(recording=other)
    assert len(lt.open_store(tmp_path / "second").recording("b")) == 1
    lt.connect(str(tmp_path / "third"), recording=current)
    assert "third" in repr(current)
    current.disconnect()


def test_connect_without_an_address_is_the_service_on_this_machine(monkeypatch):
    urls = []
    monkeypatch.setattr("lumatile.sink.sinks.open_sink", lambda url, *_, **__: urls.append(url))
    lt.new_recording("app", make_default=True).connect()
    lt.connect()
    assert urls == ["grpc://127.0.0.1:9876"] * 2


@pytest.mark.parametrize("image", [data.astronaut(), data.camera(), data.camera()[..., np.newaxis]], ids=str)
def test_an_image_with_a_jpeg_quality_is_stored_as_a_jpeg_file(strict, values, image):
    for quality in (50, np.int64(95)):
        strict.log_image("a", image[:100, :120], jpeg_quality=quality, draw_order=2)
    few, many = (value.encoded for value in values)
    assert len(few) < len(many)
    assert (values[0].source_dtype, values[0].array, values[0].draw_order) == ("jpeg", None, 2.0)
    gray = image.shape[2:] != (3,)
    shown = simplejpeg.decode_jpeg(many, "GRAY" if gray else "RGB").astype(int)
    assert np.abs(shown.reshape(image[:100, :120].shape) - image[:100, :120]).mean() < 2


@pytest.mark.parametrize(
    ("image", "quality", "error", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), 90, ValueError, r"gray or RGB of uint8, .*not uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4), np.uint16), 90, ValueError, "gray or RGB of uint8, .*not uint16"),
        (np.zeros((0, 0), np.uint8), 90, ValueError, "gray or RGB of uint8"),
        (np.zeros((70_000, 1), np.uint8), 90, ValueError, "at most 65500"),
        (np.zeros((4, 4), np.uint8), 0, ValueError, "jpeg_quality must be an integer from 1 to 100, not 0"),
        (np.zeros((4, 4), np.uint8), 101, ValueError, "not 101"),
        (np.zeros((4, 4), np.uint8), 90.5, TypeError, "not 90.5"),
        (np.zeros((4, 4, 7), np.uint8), 90, ValueError, "image must be HxW"),
    ],
)
def test_what_no_jpeg_file_can_hold_is_refused(strict, image, quality, error, message):
    with pytest.raises(error, match=message):
        strict.log_image("a", image, jpeg_quality=quality)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lt.init("app", None, True), "init takes application_id, recording_id and by name sink, .*spawn"),
        (lambda: lt.new_recording("app", init_logging=True), "new_recording takes .*'init_logging'"),
        (lambda: lt.save(path="out"), "save takes store and by name backend, recording: .*'path'"),
        (lambda: lt.connect(addr="127.0.0.1:9876"), "connect takes url and by name recording: .*'addr'"),
        (lambda: lt.disconnect(5), "disconnect takes nothing and by name timeout, recording"),
        (lt.save, "save takes store and by name backend, recording: .*missing"),
    ],
)
def test_a_wrong_call_of_what_begins_and_manages_recordings_names_the_arguments(call, message):
    with pytest.raises(lt.InvalidTypeError, match=message + r".*from-rerun\.md"):
        call()
    assert lt.get_data_recording() is None
