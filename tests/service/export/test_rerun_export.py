"""What the API logs, as a .rrd file: read back with Rerun's own reader."""

import sys

import numpy as np
import pytest
from rerun.chunk import RrdReader
from skimage import data
from tests.support.rerun_files import rows
from tests.support.shards import encoded

import lumatile as lt
from lumatile.errors import InvalidValueError, NotFoundError
from lumatile_service.batch import ingest
from lumatile_service.export import export
from lumatile_service.export.rerun_rrd import write_rrd

PHOTO = data.astronaut()[:300, :420]
DISPARITY = np.nan_to_num(data.stereo_motorcycle()[2][:250, :300], posinf=-1).astype(np.float32)
IDS = data.coins()[:250, :300] // 60
POINTS = np.random.default_rng(7).normal(size=(500, 3)).astype(np.float32)
JPEG = encoded(PHOTO, "jpeg")
EPOCH = 1_700_000_000_123_456_789
FORMATS = {np.uint8: 6, np.uint16: 8, np.float16: 33, np.float32: 34, np.float64: 35}
"""Rerun's numbers of the dtypes."""


@pytest.fixture
def log(tmp_path):
    recording = lt.new_recording("export-test", "run-1", sink=str(tmp_path / "runs"))
    yield recording
    recording.disconnect()


def exported(log, tmp_path, **options):
    """The rows that Rerun reads, and what the export says."""
    log.flush()
    said = write_rrd(lt.open_store(tmp_path / "runs").recording("run-1"), tmp_path / "out.rrd", **options)
    return rows(tmp_path / "out.rrd"), said


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("channels", "model"), [(1, 1), (3, 2), (4, 3)])
def test_images_are_the_pixels_that_were_logged(log, tmp_path, dtype, channels, model):
    image = np.dstack([PHOTO, PHOTO[..., 1]])[..., :channels]
    image = (image / 255 if np.dtype(dtype).kind == "f" else image.astype(np.uint32) * 3).astype(dtype)
    log.log_image("camera", image, draw_order=2.5)
    (row,) = exported(log, tmp_path)[0]["/camera"]
    assert row["Image:buffer"] == image.tobytes()
    (found,) = row["Image:format"]
    assert (found["width"], found["height"], found["pixel_format"]) == (420, 300, None)
    assert (found["color_model"], found["channel_datatype"]) == (model, FORMATS[dtype])
    assert row["Image:draw_order"] == 2.5


def test_files_depth_and_ids_are_what_was_logged(log, tmp_path):
    log.log_image_file("jpeg", img_bytes=JPEG)
    log.log_image_file("png", img_bytes=encoded(PHOTO, "png"))
    log.log_depth_image("metres", DISPARITY, meter=2.5)
    log.log_depth_image("millimetres", (DISPARITY.clip(0) * 100).astype(np.uint16))
    log.log_segmentation_image("ids", IDS.astype(np.int64) * 9000)
    found, said = exported(log, tmp_path)
    assert found["/jpeg"][0]["EncodedImage:blob"] == JPEG
    assert found["/png"][0]["Image:buffer"] == PHOTO.tobytes()
    assert found["/metres"][0]["DepthImage:buffer"] == DISPARITY.tobytes()
    assert found["/metres"][0]["DepthImage:meter"] == np.float32(2.5)
    assert found["/millimetres"][0]["DepthImage:buffer"] == (DISPARITY.clip(0) * 100).astype(np.uint16).tobytes()
    assert found["/millimetres"][0]["DepthImage:meter"] == 1000
    assert found["/ids"][0]["SegmentationImage:buffer"] == (IDS * np.uint16(9000)).astype(np.uint16).tobytes()
    assert (said.frames, said.left_out, said.lossy) == (5, {}, {})


def test_float_colors_are_linear_here_and_srgb_in_rerun(log, tmp_path):
    linear = np.array([[0, 0.5, 1], [0.25, 0.0031308, 0.1]], np.float32)
    log.log_points("p", POINTS[:2], colors=linear)
    (row,) = exported(log, tmp_path)[0]["/p"]
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgba = row["Points3D:colors"].astype(">u4").view(np.uint8).reshape(-1, 4)
    np.testing.assert_array_equal(rgba, np.c_[np.rint(srgb * 255), [255, 255]])


def test_points_have_what_was_given_and_no_more(log, tmp_path):
    log.log_annotation_context("/", [(1, "a", (255, 0, 0))])
    log.log_points("explicit", POINTS, radii=0.5, labels=[str(i) for i in range(500)], colors=(1, 2, 3, 4))
    log.log_points("classes", POINTS, class_ids=1, keypoint_ids=np.arange(500))
    log.log_points("flat", POINTS[:, :2], labels=[None, "x"] * 250, draw_order=4)
    log.log_points("many", np.float64(POINTS), identifiers=np.arange(500))
    log.log_point("one", np.array([1.5, 2.5, 3.1]), label="there")
    log.log_points("none", None)
    found, said = exported(log, tmp_path)
    (row,) = found["/explicit"]
    np.testing.assert_array_equal(row["Points3D:positions"], POINTS)
    assert (row["Points3D:radii"].tolist(), row["Points3D:colors"].tolist()) == ([0.5], [0x01020304])
    assert row["Points3D:labels"] == [str(i) for i in range(500)]
    (row,) = found["/classes"]
    assert "Points3D:colors" not in row  # Rerun makes them from the context, as we do
    assert row["Points3D:class_ids"].tolist() == [1]
    assert row["Points3D:keypoint_ids"].tolist() == list(range(500))
    (row,) = found["/flat"]
    assert row["Points2D:labels"] == ["", "x"] * 250
    assert row["Points2D:draw_order"] == 4
    assert found["/one"][0]["Points3D:labels"] == ["there"]
    assert "Points3D:positions" not in found["/none"][0]
    assert said.lossy == {"identifiers have no place": 1, "positions are float32": 1}


def test_times_are_sequences_timestamps_and_durations(log, tmp_path):
    log.set_time_sequence("frame", -3)
    log.set_time_nanos("stamp", EPOCH)
    log.set_time_nanos("since start", 1_500_000_001)
    log.log_image("camera", PHOTO)
    log.reset_time()
    log.log_image("no timeline", PHOTO)
    log.log_image("static", PHOTO, timeless=True)
    found, _ = exported(log, tmp_path)
    recording = lt.open_store(tmp_path / "runs").recording("run-1")
    (row,) = found["/camera"]
    assert {name: row[name] for name in ("frame", "stamp", "since start", "log_time")} == {
        "frame": ("int64", -3),
        "stamp": ("timestamp[ns]", EPOCH),
        "since start": ("duration[ns]", 1_500_000_001),
        "log_time": ("timestamp[ns]", recording.latest_at("camera").log_time),
    }
    (row,) = found[r"/no\ timeline"]
    assert {"log_time", "frame", "stamp"} & row.keys() == {"log_time"}
    (row,) = found["/static"]
    assert row["static"]


def test_contexts_and_clears_are_rerun_s(log, tmp_path):
    described = lt.ClassDescription(
        info=(1, "person", (10, 20, 30, 40)),
        keypoint_annotations=[(0, "nose"), lt.AnnotationInfo(5, None, (0.5, 0.5, 0.5))],
        keypoint_connections=[(0, 5)],
    )
    log.log_annotation_context("world", [described, (7, None)])
    log.set_time_sequence("frame", 4)
    log.log_annotation_context("other", [(2, "late")], timeless=False)
    log.log_cleared("world/camera")
    log.log_cleared("/", recursive=True)
    found, _ = exported(log, tmp_path)
    (row,) = found["/world"]
    assert row["static"]
    (context,) = row["AnnotationContext:context"]
    assert context == [
        {
            "class_id": 1,
            "class_description": {
                "info": {"id": 1, "label": "person", "color": 0x0A141E28},
                "keypoint_annotations": [
                    {"id": 0, "label": "nose", "color": None},
                    {"id": 5, "label": None, "color": 0xBCBCBCFF},
                ],
                "keypoint_connections": [{"keypoint0": 0, "keypoint1": 5}],
            },
        },
        {
            "class_id": 7,
            "class_description": {
                "info": {"id": 7, "label": None, "color": None},
                "keypoint_annotations": [],
                "keypoint_connections": [],
            },
        },
    ]
    assert found["/other"][0]["frame"] == ("int64", 4)
    assert found["/world/camera"][0]["Clear:is_recursive"] == [False]
    assert found["/"][0]["Clear:is_recursive"] == [True]


def test_the_ids_are_the_recording_s(log, tmp_path):
    log.log_image("camera", PHOTO)
    exported(log, tmp_path)
    (entry,) = RrdReader(tmp_path / "out.rrd").recordings()
    assert (entry.application_id, entry.recording_id) == ("export-test", "run-1")


def test_entities_are_chosen_with_the_contexts_above_them(log, tmp_path):
    log.log_annotation_context("/", [(1, "a")])
    log.log_annotation_context("world", [(1, "b")])
    log.log_image("world", PHOTO)
    log.log_image("world/left", PHOTO)
    log.log_image("world/left/small", PHOTO[:9, :9])
    log.log_image("worldly", PHOTO)
    found, said = exported(log, tmp_path, entities=["world/left"])
    assert found.keys() == {"/", "/world", "/world/left", "/world/left/small"}
    assert "AnnotationContext:context" in found["/world"][0]
    assert (len(found["/world"]), said.frames) == (1, 4)
    with pytest.raises(NotFoundError, match="elsewhere"):
        exported(log, tmp_path, entities=["elsewhere"])


@pytest.mark.filterwarnings("ignore::lumatile.LumatileWarning")
def test_equal_errors_are_one_reason_whatever_their_entity_paths(log, tmp_path):
    for path in ("site: A/cam", "/cam/", "cam"):
        log.log_image(path, PHOTO[..., :2])
    _, said = exported(log, tmp_path)
    ((reason, count),) = said.left_out.items()
    assert reason.startswith("an error was logged: image must be HxW")
    assert count == 3


@pytest.mark.filterwarnings("ignore::lumatile.LumatileWarning")
def test_what_is_left_out_is_counted(log, tmp_path):
    log.log_image("camera", PHOTO)
    log.log_image("camera", PHOTO[..., :2])
    log.log_image_file("camera", img_bytes=JPEG[:400])
    log.log_extension_components("camera", {"speed": 3})
    log.log_image("camera", PHOTO, ext={"speed": 4})
    found, said = exported(log, tmp_path)
    assert len(found["/camera"]) == said.frames == 2
    assert said.errors == 2
    assert sum(said.left_out.values()) == 3
    assert said.left_out["there is no place for values of kind 'ext'"] == 1
    assert said.lossy == {"extension components have no place": 1}


def test_where_sources_were_not_kept_it_is_what_the_tiles_give(tmp_path):
    log = lt.new_recording("export-test", "run-1", sink=str(tmp_path / "runs"), keep_source=False)
    log.log_image("float", (PHOTO / 255) ** 2.2)
    log.log_image("gray", (PHOTO[..., 0] / 255).astype(np.float32))
    log.log_depth_image("depth", DISPARITY, meter=2)
    log.log_points("p", POINTS, colors=(0, 255, 0))
    log.log_points("q", POINTS)
    log.disconnect()
    recording = lt.open_store(tmp_path / "runs").recording("run-1")
    said = write_rrd(recording, tmp_path / "out.rrd")
    found = rows(tmp_path / "out.rrd")
    pixels = np.frombuffer(found["/float"][0]["Image:buffer"], np.uint8).reshape(PHOTO.shape)
    np.testing.assert_array_equal(pixels, recording.latest_at("float").to_rgba8()[..., :3])
    assert found["/gray"][0]["Image:format"][0]["color_model"] == 1
    assert found["/depth"][0]["DepthImage:buffer"] == np.where(DISPARITY > 0, DISPARITY / np.float32(2), 0).tobytes()
    np.testing.assert_allclose(found["/p"][0]["Points3D:positions"], POINTS, atol=1e-6)
    assert set(found["/p"][0]["Points3D:colors"].tolist()) == {0x00FF00FF}
    assert said.lossy == {
        "the source was not kept: tiles, in 8 bits": 2,
        "the source was not kept: the tiles' metres": 1,
    }


def test_rows_of_an_entity_share_chunks(log, tmp_path):
    for frame in range(300):
        log.set_time_sequence("frame", frame)
        log.log_points("p", POINTS[frame : frame + 2])
    found, _ = exported(log, tmp_path)
    assert [row["frame"][1] for row in found["/p"]] == list(range(300))
    for frame, row in enumerate(found["/p"]):
        np.testing.assert_array_equal(row["Points3D:positions"], POINTS[frame : frame + 2])
    assert len(RrdReader(tmp_path / "out.rrd").store()) == 1


def test_a_destination_that_cannot_be_written_is_an_oserror(log, tmp_path):
    log.log_image("camera", PHOTO)
    log.flush()
    with pytest.raises(OSError, match="cannot be written"):
        write_rrd(lt.open_store(tmp_path / "runs").recording("run-1"), tmp_path / "no" / "out.rrd")


def test_export_writes_rrd_and_says_what_is_missing(log, tmp_path, monkeypatch):
    log.log_image("camera", PHOTO)
    log.flush()
    said = export(tmp_path / "runs", "run-1", tmp_path / "new.rrd")
    assert (said.frames, said.bytes_out) == (1, (tmp_path / "new.rrd").stat().st_size)
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InvalidValueError, match=r"install lumatile\[rerun\]"):
        export(tmp_path / "runs", "run-1", tmp_path / "newer.rrd")
    assert not (tmp_path / "newer.rrd").exists()


def test_row_ids_follow_the_order_of_logging_across_entities(log, tmp_path):
    """A recursive clear at the same time as what it clears is after it, and before what is logged afterwards."""
    log.set_time_sequence("frame", 7)
    log.log_points("a/b", POINTS[:2])
    log.log_image("z", PHOTO[:4, :4])
    log.log_cleared("a", recursive=True)
    log.log_points("a/c", POINTS[2:4])
    log.log_points("A", POINTS[2:4], timeless=True)
    found, _ = exported(log, tmp_path)
    ids = [found[entity][0]["id"] for entity in ("/a/b", "/z", "/a", "/a/c", "/A")]
    assert ids == sorted(set(ids))
    # what was read back is cleared in the same way
    ingest(tmp_path / "out.rrd", tmp_path / "again")
    again = lt.open_store(tmp_path / "again").recording()
    assert again.latest_at("a/b", frame=7) is None
    assert again.latest_at("a/c", frame=7) is not None
