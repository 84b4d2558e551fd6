"""Every name that the documents promise exists, with the documented signature, and works on a real store.

Longer than other files: it has the documented signature and an example of every public name.
"""

import ast
import dataclasses
import datetime as dt
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lumatile as lt
from lumatile.settings import RecordingSettings

pytestmark = pytest.mark.usefixtures("_own_recordings")

SIGNATURES = {
    "log_point": "(entity_path, position=None, *, radius=None, color=None, label=None, class_id=None, "
    "keypoint_id=None, ext=None, timeless=False, draw_order=None, recording=None)",
    "log_points": "(entity_path, positions=None, *, identifiers=None, colors=None, radii=None, labels=None, "
    "class_ids=None, keypoint_ids=None, ext=None, timeless=False, draw_order=None, recording=None)",
    "log_image": "(entity_path, image, *, draw_order=None, ext=None, timeless=False, jpeg_quality=None, "
    "recording=None)",
    "log_image_file": "(entity_path, *, img_bytes=None, img_path=None, img_format=None, timeless=False, "
    "draw_order=None, recording=None)",
    "log_depth_image": "(entity_path, image, *, draw_order=None, meter=None, ext=None, timeless=False, recording=None)",
    "log_segmentation_image": "(entity_path, image, *, draw_order=None, ext=None, timeless=False, recording=None)",
    "log_annotation_context": "(entity_path, class_descriptions, *, timeless=True, recording=None)",
    "log_extension_components": "(entity_path, ext, *, identifiers=None, timeless=False, recording=None)",
    "log_cleared": "(entity_path, *, recursive=False, recording=None)",
    "AnnotationInfo": "(id=0, label=None, color=None)",
    "ClassDescription": "(info=None, keypoint_annotations=None, keypoint_connections=None)",
}
"""Parameters, in the documents' order where they are positional, and defaults."""

SETTINGS = {
    "recording_id": None,
    "sink": None,
    "strict": False,
    "tile_format": "linear",
    "keep_source": True,
    "compression": None,
    "float_colors": "linear",
    "queue_bytes": 2**28,
    "queue_policy": "block",
    "max_block": 5.0,
}

NAMES = (
    *SIGNATURES,
    *("init", "new_recording", "RecordingStream", "set_global_data_recording", "get_global_data_recording"),
    *("set_thread_local_data_recording", "get_thread_local_data_recording", "get_data_recording"),
    *("set_time_sequence", "set_time_seconds", "set_time_nanos", "reset_time", "ImageFormat"),
    *("save", "connect", "disconnect", "flush", "set_strict_mode", "open_store"),
    *("LumatileWarning", "LumatileError", "FlushError", "SourceNotKeptError"),
    *("get_application_id", "get_recording_id", "is_enabled"),
    *("Tensor", "Color", "Colors", "OptionalClassIds", "OptionalKeyPointIds"),
    *("StoreError", "NotFoundError", "SinkError", "InvalidValueError", "InvalidTypeError"),
    *("Store", "RecordingReader", "Frame", "PointCloud", "__version__"),
)


@pytest.fixture(name="_own_recordings")
def _own_recordings():
    yield
    lt.set_thread_local_data_recording(None)
    lt.set_global_data_recording(None)


@pytest.fixture
def recording(tmp_path):
    recording = lt.init("names", "run-1", sink=str(tmp_path / "runs"), strict=True)
    yield recording
    recording.disconnect()


@pytest.fixture
def stored(recording, tmp_path):
    """Give what was logged so far, as a reader sees it."""

    def read():
        assert lt.flush() == "store"
        return lt.open_store(tmp_path / "runs").recording("run-1")

    return read


def rgb(height=600, width=700):
    y, x = np.mgrid[:height, :width]
    return np.stack([y % 256, x % 256, (x + y) % 256], axis=-1).astype(np.uint8)


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values() if p.name != "self"]


def expected(text):
    made = eval(f"lambda {text[1:-1]}: None")
    return parameters(made)


@pytest.mark.parametrize("name", NAMES)
def test_the_name_is_public(name):
    assert hasattr(lt, name)
    assert name in lt.__all__


def test_all_is_what_is_visible():
    assert sorted(lt.__all__) == sorted(set(lt.__all__)) == sorted(NAMES) == dir(lt)
    assert [name for name in lt.__all__ if not hasattr(lt, name)] == []
    own = {name for name, value in vars(lt).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert own == {name for name in NAMES if not name.startswith("_")}
    with pytest.raises(AttributeError, match="module 'lumatile' has no attribute 'log_video'"):
        lt.log_video  # noqa: B018


def test_what_reads_a_store_has_a_name_that_is_loaded_when_it_is_used():
    code = """
import sys
import numpy.typing
before = set(sys.modules)
import lumatile as lt
light = {name for name in set(sys.modules) - before if not name.startswith("lumatile")}
assert not [name for name in light if name.startswith(("pyarrow", "numpy"))], light
assert not [name for name in sys.modules if name.startswith("lumatile.read.")]
from lumatile import Frame, PointCloud, RecordingReader, Store, __version__
from lumatile.read import frame, point_cloud, recording_reader, store
assert (Frame, PointCloud) == (frame.Frame, point_cloud.PointCloud)
assert (RecordingReader, Store) == (recording_reader.RecordingReader, store.Store)
assert __version__[0].isdigit()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_a_type_checker_knows_what_is_loaded_late():
    (block,) = (
        node
        for node in ast.parse(Path(lt.__file__).read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "_TYPE_CHECKING"
    )
    homes = {name.name: each.module for each in block.body if isinstance(each, ast.ImportFrom) for name in each.names}
    assert homes == {name: getattr(lt, name).__module__ for name in ("Frame", "PointCloud", "RecordingReader", "Store")}


def test_a_recording_says_what_it_is_and_where_it_logs(tmp_path):
    recording = lt.new_recording("names", "run-1", sink=tmp_path / "runs")
    with pytest.warns(lt.LumatileWarning):
        recording.log_image("x", np.zeros((2, 2, 7), np.uint8))
    assert repr(recording) == (
        f"<RecordingStream 'run-1' application='names' sink={str(tmp_path / 'runs')!r} strict=False errors=1 lost=0>"
    )
    recording.disconnect()
    assert "refuses_values='the recording is disconnected; save or connect it first'" in repr(recording)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signature_is_the_documented_one(name):
    positional, keyword = (
        {n: d for n, k, d in parameters(getattr(lt, name)) if (k is inspect.Parameter.KEYWORD_ONLY) == only}
        for only in (False, True)
    )
    wanted = expected(SIGNATURES[name])
    assert list(positional.items()) == [(n, d) for n, k, d in wanted if k is not inspect.Parameter.KEYWORD_ONLY]
    assert keyword == {n: d for n, k, d in wanted if k is inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("function", ["init", "new_recording"])
def test_init_takes_the_documented_settings(function):
    found = parameters(getattr(lt, function))
    assert [n for n, _, _ in found[:2]] == ["application_id", "recording_id"]
    assert {n: d for n, _, d in found if n in SETTINGS} == SETTINGS
    assert all(k is inspect.Parameter.KEYWORD_ONLY for n, k, _ in found[2:])


def test_the_defaults_of_settings_agree_wherever_they_stand():
    init, new = (dict(inspect.signature(function).parameters) for function in (lt.init, lt.new_recording))
    assert [new.pop(name).default for name in ("make_default", "make_thread_default")] == [False, False]
    assert init == new
    others = ("application_id", "recording_id", "sink", "spawn", "default_enabled")
    given = {name: parameter.default for name, parameter in init.items() if name not in others}
    fields = dataclasses.fields(RecordingSettings)
    assert given == {f.name: f.default for f in fields if f.name not in ("application_id", "recording_id")}


@pytest.mark.parametrize(
    "name",
    [
        *(n for n in SIGNATURES if n.startswith("log_")),
        *("set_time_sequence", "set_time_seconds", "set_time_nanos", "reset_time"),
        *("save", "connect", "disconnect", "flush"),
    ],
)
def test_a_recordings_methods_are_the_same_functions(name):
    own = [p for p in parameters(getattr(lt.RecordingStream, name)) if p[0] != "recording"]
    assert own == [p for p in parameters(getattr(lt, name)) if p[0] != "recording"]


def test_errors_derive_from_one():
    assert issubclass(lt.FlushError, lt.LumatileError)
    assert issubclass(lt.SourceNotKeptError, lt.LumatileError)
    assert issubclass(lt.LumatileWarning, UserWarning)


def test_image_both_generations_of_calls_and_every_reader_name(recording, stored):
    image = rgb()
    lt.set_time_sequence("frame", 41)
    lt.log_image("camera/rgb", image // 2)
    lt.set_time_sequence("frame", 42)
    lt.set_time_seconds("sim time", 3.5)
    lt.log_image("camera/rgb", image, draw_order=2.0, ext={"iso": 100}, timeless=False, recording=recording)
    rec = stored()

    assert list(rec.entities()) == ["camera/rgb"]
    assert {"frame", "sim time", "log_time", "log_tick"} <= set(rec.timelines())
    frame = rec.latest_at("camera/rgb", frame=42)
    assert frame.kind == "image"
    assert frame.entity_path == "camera/rgb"
    assert frame.dtype == np.uint8
    assert frame.format == "rgba16float"
    assert frame.shape == (600, 700, 3)
    assert frame.levels == ((600, 700), (300, 350), (150, 175))
    assert frame.times["frame"] == 42
    assert frame.times["sim time"] == np.datetime64(3_500_000_000, "ns")
    assert isinstance(frame.times["log_time"], np.datetime64)
    tile = frame.tile(level=0, x=2, y=1)
    assert tile.shape == (256, 188, 4)
    assert tile.dtype == np.float16
    assert not tile.flags.owndata
    whole = frame.image(level=0)
    np.testing.assert_array_equal(whole[256:512, 512:700], tile)
    assert frame.image(level=2).shape == (150, 175, 4)
    np.testing.assert_array_equal(frame.source(), image)
    np.testing.assert_array_equal(frame.to_rgba8(level=0)[..., :3], image)
    assert frame.to_rgba8(level=1).shape == (300, 350, 4)

    earlier = rec.latest_at("camera/rgb", frame=41)
    np.testing.assert_array_equal(earlier.source(), image // 2)
    assert rec.latest_at("camera/rgb", frame=40) is None
    assert rec.latest_at("camera/rgb", at={"sim time": 3.4}) is None
    later = dt.datetime(1970, 1, 1, 0, 0, 4, tzinfo=dt.UTC)
    for at in (3.5, 3_500_000_000, later, np.datetime64(4, "s")):
        np.testing.assert_array_equal(rec.latest_at("camera/rgb", at={"sim time": at}).source(), image)
    assert rec.latest_at("camera/rgb", kind="depth") is None
    assert [f.times["frame"] for f in rec.frames("camera/rgb")] == [41, 42]
    assert rec.frames_table().num_rows >= 2
    assert set(rec.frames_table().column("entity_path").to_pylist()) == {"camera/rgb"}


def test_recordings_tell_their_ids(recording, stored, tmp_path):
    lt.log_point("p", [1, 2, 3])
    stored()
    (found,) = lt.open_store(str(tmp_path / "runs")).recordings()
    assert (found.application_id, found.recording_id) == ("names", "run-1")


def test_depth_segmentation_and_contexts(stored):
    depth = np.array([[0, 500], [1500, 65535]], np.uint16)
    lt.log_depth_image("camera/depth", depth)
    lt.log_depth_image("camera/far", depth.astype(np.float32), draw_order=1.0, meter=0.5, ext=None, timeless=True)
    ids = np.array([[0, 1], [2, 7]], np.int64)
    lt.log_annotation_context(
        "camera",
        [
            lt.ClassDescription(info=lt.AnnotationInfo(1, "one", (10, 20, 30)), keypoint_annotations=[(4, "knee")]),
            (2, "two", (40, 50, 60, 70)),
            lt.AnnotationInfo(id=7, label="seven"),
        ],
    )
    lt.log_segmentation_image("camera/classes", ids)
    rec = stored()

    frame = rec.latest_at("camera/depth")
    assert (frame.kind, frame.shape, frame.format) == ("depth", (2, 2), "r32float")
    np.testing.assert_array_equal(frame.depth(level=0), depth.astype(np.float32) / np.float32(1000))
    np.testing.assert_array_equal(frame.source(), depth)
    assert frame.to_rgba8(level=0)[0, 0, 3] == 0
    np.testing.assert_array_equal(
        rec.latest_at("camera/far").depth(level=0), depth.astype(np.float32) / np.float32(0.5)
    )
    classes = rec.latest_at("camera/classes")
    assert classes.kind == "segmentation"
    np.testing.assert_array_equal(classes.ids(level=0), ids)
    np.testing.assert_array_equal(classes.source(), ids)
    assert classes.source().dtype == np.int64
    colors = classes.colors(level=0)
    assert colors.tolist()[0] == [[0, 0, 0, 0], [10, 20, 30, 255]]
    assert colors.tolist()[1][0] == [40, 50, 60, 70]


def test_points_come_back_as_logged_and_as_drawn(stored):
    positions = np.array([[3.0, 0, 1], [1, 2, 3], [0, 0, 0]])
    lt.log_annotation_context("cloud", lt.ClassDescription(lt.AnnotationInfo(1, "one", (10, 20, 30)), [(4, "knee")]))
    lt.log_points(
        "cloud",
        positions,
        identifiers=[7, 8, 9],
        colors=np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8),
        radii=[0.5],
        labels=["a", "b", "c"],
        class_ids=[1, 1, 0],
        keypoint_ids=[4, 4, 4],
        ext={"k": 1},
    )
    lt.log_points("cloud/bare", positions, class_ids=1)
    lt.log_point("one", [0, 0], radius=0, color=[1.0, 0.0, 0.0], label="origin", class_id=0, keypoint_id=3)
    lt.log_points("empty", None)
    rec = stored()

    frame = rec.latest_at("cloud")
    assert (frame.kind, frame.shape) == ("points", (3, 3))
    points = frame.points()
    np.testing.assert_array_equal(points.positions, positions)
    assert points.colors.tolist() == [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]]
    assert points.radii.tolist() == [0.5] * 3
    assert list(points.labels) == ["a", "b", "c"]
    assert points.class_ids.tolist() == [1, 1, 0]
    assert points.keypoint_ids.tolist() == [4, 4, 4]
    assert points.identifiers.tolist() == [7, 8, 9]
    bare = rec.latest_at("cloud/bare").points()
    assert bare.colors.tolist() == [[10, 20, 30, 255]] * 3
    assert bare.labels is None
    assert list(bare.display_labels) == ["one"] * 3
    assert bare.radii is bare.identifiers is bare.keypoint_ids is None
    one = rec.latest_at("one").points()
    assert one.positions.tolist() == [[0, 0]]
    assert one.colors.tolist() == [[255, 0, 0, 255]]
    assert one.keypoint_ids.tolist() == [3]
    assert rec.latest_at("empty").points().positions.shape[0] == 0
    source = frame.source()
    np.testing.assert_array_equal(source["positions"], positions)
    assert source["positions"].dtype == np.float64


def test_image_files_keep_their_bytes_or_their_pixels(stored, tmp_path):
    from io import BytesIO

    from PIL import Image

    image = rgb(300, 400)
    jpeg, png = BytesIO(), BytesIO()
    Image.fromarray(image).save(jpeg, "JPEG")
    Image.fromarray(image).save(png, "PNG")
    path = tmp_path / "picture.bin"
    path.write_bytes(jpeg.getvalue())
    lt.log_image_file("file", img_path=path)
    lt.log_image_file("jpeg", img_bytes=jpeg.getvalue(), img_format=lt.ImageFormat.JPEG)
    lt.log_image_file("png", img_bytes=png.getvalue(), img_format=lt.ImageFormat.PNG, timeless=True)
    rec = stored()
    assert rec.latest_at("file").source() == jpeg.getvalue()
    assert rec.latest_at("jpeg").shape == (300, 400, 3)
    np.testing.assert_array_equal(rec.latest_at("png").source(), image)


def test_clears_extensions_and_timeless(stored):
    lt.log_image("a/b", rgb(8, 8))
    lt.log_image("a/always", rgb(8, 8), timeless=True)
    lt.log_extension_components("a/b", {"note": "hello"}, identifiers=None, timeless=False)
    rec = stored()
    assert rec.latest_at("a/b").kind == "image"
    lt.log_cleared("a", recursive=True)
    assert rec.latest_at("a/b") is not None
    lt.flush()
    rec.refresh()
    assert rec.latest_at("a/b") is None
    lt.log_image("a/b", rgb(8, 8))
    lt.log_cleared("a")
    assert stored().latest_at("a/b") is not None


def test_follow_yields_what_is_committed_later(stored):
    lt.log_point("p", [0, 0, 0])
    rec = stored()
    later = rec.follow()
    lt.log_point("q", [1, 1, 1])
    lt.flush()
    assert next(later).entity_path == "q"


def test_times_of_a_recording(recording, stored):
    lt.set_time_nanos("t", 5)
    lt.set_time_sequence("frame", 1)
    lt.log_point("both", [0, 0])
    lt.set_time_sequence("frame", None)
    lt.log_point("t only", [0, 0])
    lt.reset_time()
    lt.log_point("none", [0, 0])
    with pytest.raises(ValueError, match="frame"):
        lt.set_time_seconds("frame", 1.0)
    rec = stored()
    assert {"t", "frame"} <= rec.latest_at("both").times.keys()
    assert "frame" not in rec.latest_at("t only").times
    assert not {"t", "frame"} & rec.latest_at("none").times.keys()
    assert rec.latest_at("none", frame=10**6) is None


def test_recordings_resolve_explicit_then_thread_then_global(recording, tmp_path):
    other = lt.new_recording("names", "run-2", sink=str(tmp_path / "runs"))
    assert lt.get_data_recording() is recording
    assert lt.get_global_data_recording() is recording
    lt.set_thread_local_data_recording(other)
    assert lt.get_thread_local_data_recording() is other
    assert lt.get_data_recording() is other
    assert lt.get_data_recording(recording) is recording
    lt.set_thread_local_data_recording(None)
    with other:
        assert lt.get_data_recording() is other
        lt.log_point("in other", [0, 0])
    assert lt.get_data_recording() is recording
    other.flush()
    other.disconnect()
    store = lt.open_store(tmp_path / "runs")
    assert list(store.recording("run-2").entities()) == ["in other"]


def test_without_a_recording_a_call_warns_and_does_not_crash():
    lt.set_global_data_recording(None)
    with pytest.warns(lt.LumatileWarning):
        lt.log_image("camera", rgb(8, 8))


def test_save_moves_a_recording_to_another_store(recording, tmp_path):
    lt.log_point("first", [0, 0])
    lt.save(str(tmp_path / "second"), backend="numpy")
    lt.log_point("second", [0, 0])
    lt.flush(timeout=60)
    assert list(lt.open_store(tmp_path / "runs").recording("run-1").entities()) == ["first"]
    assert list(lt.open_store(tmp_path / "second").recording("run-1").entities()) == ["second"]
    lt.connect(str(tmp_path / "third"))
    lt.log_point("third", [0, 0])
    lt.disconnect()
    assert list(lt.open_store(tmp_path / "third").recording("run-1").entities()) == ["third"]


def test_strict_mode_raises_and_lenient_mode_warns(stored, tmp_path):
    bad = np.zeros((4, 4, 7), np.uint8)
    with pytest.raises(ValueError, match="7"):
        lt.log_image("bad", bad)
    lt.log_image("bad", rgb(4, 4))
    lenient = lt.new_recording("names", "run-1", sink=str(tmp_path / "runs"))
    with pytest.warns(lt.LumatileWarning, match="7"):
        lt.log_image("bad", bad, recording=lenient)
    lenient.flush()
    lenient.disconnect()
    rec = stored()
    assert [e for e in rec.frames_table().column("error").to_pylist() if e]
    assert rec.latest_at("bad").shape == (4, 4, 3)
    with pytest.raises(lt.LumatileError):
        lt.open_store("no such directory").recordings()


def test_a_source_that_was_not_kept_is_said(tmp_path):
    with lt.new_recording("names", "r", sink=str(tmp_path / "s"), keep_source=False, tile_format="srgb8") as recording:
        recording.log_image("image", rgb(8, 8))
        recording.log_image("floats", np.full((8, 8, 3), 0.3, np.float32))
        recording.flush()
    recording.disconnect()
    rec = lt.open_store(tmp_path / "s").recording("r")
    np.testing.assert_array_equal(rec.latest_at("image").source(), rgb(8, 8))
    assert rec.latest_at("image").format == "rgba8unorm-srgb"
    with pytest.raises(lt.SourceNotKeptError):
        rec.latest_at("floats").source()


def test_annotations_are_values():
    assert lt.AnnotationInfo() == lt.AnnotationInfo(0, None, None)
    assert dataclasses.is_dataclass(lt.AnnotationInfo)
    assert lt.ClassDescription().info is None
