"""Rerun recordings in and out; Rerun's SDK writes what is read, and reads what is written."""

import numpy as np
import pytest
import rerun as rr
from cloudpickle import dumps, loads
from skimage import data
from tests.support.rerun_files import equal, rows, written
from tests.support.shards import encoded

import lumatile as lt
from lumatile.read.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.formats.rerun import reader as rerun_rrd
from lumatile_service.batch.source_files import SourceFiles
from lumatile_service.export.rerun_rrd import write_rrd

PHOTO = data.astronaut()[:300, :420]
GRAY = data.camera()[:200, :300]
DISPARITY = data.stereo_motorcycle()[2][:250, :300].astype(np.float32)
MILLIMETRES = (np.where(np.isfinite(DISPARITY), DISPARITY, 0) * 100).astype(np.uint16)
IDS = (data.coins()[:250, :300] // 60).astype(np.uint8)
POINTS = np.random.default_rng(7).normal(size=(500, 3)).astype(np.float32)
JPEG, PNG = encoded(PHOTO, "jpeg"), encoded(PHOTO, "png")
EPOCH = 1_700_000_000_123_456_789
CONTEXT = rr.AnnotationContext(
    [
        rr.ClassDescription(
            info=rr.AnnotationInfo(id=1, label="coin", color=(200, 10, 20, 255)),
            keypoint_annotations=[rr.AnnotationInfo(id=0, label="rim"), rr.AnnotationInfo(id=1, color=(1, 2, 3))],
            keypoint_connections=[(0, 1)],
        ),
        rr.AnnotationInfo(id=2, label="shadow"),
    ]
)

FLOATS = (PHOTO / np.float32(255)).astype(np.float32)
ALPHA = np.dstack([PHOTO, PHOTO[..., :1]])
IMAGES = {
    "l8": (GRAY, "L", GRAY),
    "rgb8": (PHOTO, "RGB", PHOTO),
    "rgba8": (ALPHA, "RGBA", ALPHA),
    "bgr8": (PHOTO, "BGR", PHOTO[..., ::-1]),
    "bgra8": (ALPHA, "BGRA", ALPHA[..., [2, 1, 0, 3]]),
    "rgb16": (PHOTO.astype(np.uint16) * 257, "RGB", PHOTO.astype(np.uint16) * 257),
    "l16": (MILLIMETRES, "L", MILLIMETRES),
    "half": (FLOATS.astype(np.float16), "RGB", FLOATS.astype(np.float16)),
    "float": (FLOATS, "RGB", FLOATS),
    "double": (FLOATS.astype(np.float64)[..., 0], "L", FLOATS.astype(np.float64)[..., 0]),
}
"""Entity -> what is logged, its color model, what comes back."""


def stand(recording, frame):
    recording.set_time("frame", sequence=frame)
    recording.set_time("stamp", timestamp=np.datetime64(EPOCH + frame, "ns"))
    recording.set_time("since start", duration=np.timedelta64(1_500_000_001 * frame, "ns"))


def log_all(recording):
    """Every archetype that has a place, and some that have none."""
    recording.log("world", CONTEXT, static=True)
    recording.log("world/still", rr.Image(GRAY), static=True)
    for frame in (3, 4, 5):
        stand(recording, frame)
        for entity, (pixels, model, _) in IMAGES.items():
            recording.log(f"images/{entity}", rr.Image(np.roll(pixels, frame, 1), color_model=model, draw_order=frame))
        recording.log("files/jpeg", rr.EncodedImage(contents=JPEG + bytes(frame), media_type="image/jpeg"))
        recording.log("files/png", rr.EncodedImage(contents=PNG, media_type="image/png", draw_order=1.5))
        recording.log("depth/integers", rr.DepthImage(np.roll(MILLIMETRES, frame, 1), meter=5000))
        recording.log("depth/floats", rr.DepthImage(np.roll(DISPARITY, frame, 1), meter=0.1))
        recording.log("depth/default", rr.DepthImage(MILLIMETRES))
        recording.log("depth/file", rr.EncodedDepthImage(blob=encoded(MILLIMETRES, "png"), media_type="image/png"))
        recording.log("world/ids", rr.SegmentationImage(np.roll(IDS, frame, 1), draw_order=-1.0))
        recording.log("world/wide ids", rr.SegmentationImage(IDS.astype(np.int32) * 9000))
        recording.log(
            "world/points",
            rr.Points3D(
                POINTS + frame,
                colors=(np.abs(POINTS) * 60).astype(np.uint8),
                radii=np.linspace(0.01, 0.2, 500),
                labels=[f"point {i}" for i in range(500)],
                class_ids=np.arange(500) % 3,
                keypoint_ids=np.arange(500) % 2,
            ),
        )
        recording.log("flat/points", rr.Points2D(POINTS[:, :2], colors=[0x11223344], radii=-2.0, draw_order=7.0))
        recording.log("flat/labels", rr.Points2D([[1, 2], [3, 4]], labels="both", class_ids=2))
        recording.log("robot/arm", rr.Transform3D(translation=[1, 2, frame]), rr.Boxes3D(half_sizes=[1, 1, 1]))
        recording.log("robot/speed", rr.Scalars(frame * 1.5))
        recording.log("images/l8", rr.AnyValues(note="blurred"))
        recording.log("images/rgb8", rr.Image.from_fields(opacity=0.5))
    stand(recording, 6)
    recording.log("images/l8", rr.Clear(recursive=False))
    recording.log("flat", rr.Clear(recursive=True))


@pytest.fixture(scope="module")
def rrd(tmp_path_factory):
    return written(tmp_path_factory.mktemp("rerun") / "drive.rrd", log_all)


@pytest.fixture(scope="module")
def stored(rrd, tmp_path_factory):
    """The summary of the job, and the recording."""
    store = tmp_path_factory.mktemp("store")
    summary = ingest(rrd, store)
    assert not verify(lt.open_store(store)).problems
    return summary, lt.open_store(store).recording(summary.recording_id)


def at(recording, entity, frame):
    return recording.latest_at(entity, frame=frame)


@pytest.mark.parametrize("entity", IMAGES)
def test_the_pixels_of_images_are_those_that_were_logged(stored, entity):
    for frame in (3, 4, 5):
        found = at(stored[1], f"images/{entity}", frame)
        expected = np.roll(IMAGES[entity][2], frame, 1)
        source = found.source()
        assert source.dtype == expected.dtype
        np.testing.assert_array_equal(source, expected)
        assert found.draw_order == frame


def test_image_files_stay_what_they_are(stored):
    assert at(stored[1], "files/jpeg", 4).source() == JPEG + bytes(4)
    png = at(stored[1], "files/png", 4)
    np.testing.assert_array_equal(png.source(), PHOTO)
    assert png.draw_order == 1.5


def test_depth_is_in_metres_to_the_last_bit(stored):
    for entity, units, meter in (
        ("depth/integers", np.roll(MILLIMETRES, 4, 1), np.float32(5000)),
        ("depth/floats", np.roll(DISPARITY, 4, 1), np.float32(0.1)),
        ("depth/default", MILLIMETRES, np.float32(1000)),
        ("depth/file", MILLIMETRES, np.float32(1000)),
    ):
        frame = at(stored[1], entity, 4)
        np.testing.assert_array_equal(frame.source(), units)
        metres = units.astype(np.float32) / meter
        np.testing.assert_array_equal(frame.depth(), np.where(np.isfinite(metres) & (metres > 0), metres, 0))


def test_class_ids_have_the_colors_of_their_context(stored):
    frame = at(stored[1], "world/ids", 5)
    np.testing.assert_array_equal(frame.source(), np.roll(IDS, 5, 1))
    assert frame.draw_order == -1
    assert (frame.colors()[frame.ids() == 1] == [200, 10, 20, 255]).all()
    np.testing.assert_array_equal(at(stored[1], "world/wide ids", 5).source(), IDS.astype(np.uint16) * 9000)


def test_points_have_all_their_columns(stored):
    points = at(stored[1], "world/points", 4)
    source = points.source()
    np.testing.assert_array_equal(source["positions"], POINTS + 4)
    np.testing.assert_array_equal(source["colors"][:, :3], (np.abs(POINTS) * 60).astype(np.uint8))
    np.testing.assert_array_equal(source["radii"], np.linspace(0.01, 0.2, 500).astype(np.float32))
    np.testing.assert_array_equal(source["class_ids"], np.arange(500) % 3)
    np.testing.assert_array_equal(source["keypoint_ids"], np.arange(500) % 2)
    assert list(source["labels"]) == [f"point {i}" for i in range(500)]
    flat = at(stored[1], "flat/points", 4)
    np.testing.assert_array_equal(flat.source()["positions"], POINTS[:, :2])
    np.testing.assert_array_equal(flat.points().colors, np.full((500, 4), [0x11, 0x22, 0x33, 0x44]))
    assert (flat.points().radii == -2).all()
    assert flat.draw_order == 7
    assert at(stored[1], "flat/labels", 4).points().labels == ["both", "both"]


def test_annotation_contexts_keep_keypoints_and_connections(stored):
    (frame,) = stored[1].frames("world")
    assert frame.timeless
    assert frame.source()["classes"] == [
        {
            "id": 1,
            "label": "coin",
            "color": [200, 10, 20, 255],
            "keypoints": [{"id": 0, "label": "rim"}, {"id": 1, "color": [1, 2, 3, 255]}],
            "connections": [[0, 1]],
        },
        {"id": 2, "label": "shadow"},
    ]


def test_static_values_are_timeless_and_times_are_those_of_the_row(stored, rrd):
    _, recording = stored
    assert recording.latest_at("world/still", frame=-100).timeless
    assert recording.timelines() == {
        "log_time": "time",
        "log_tick": "sequence",
        "frame": "sequence",
        "stamp": "time",
        "since start": "time",
    }
    logged = rows(rrd)["/images/rgb8"]
    frame = at(recording, "images/rgb8", 3)
    assert frame.times["frame"] == 3
    assert frame.times["stamp"] == np.datetime64(EPOCH + 3, "ns")
    assert frame.times["since start"] == np.datetime64(4_500_000_003, "ns")
    assert frame.log_time == logged[0]["log_time"][1]
    assert recording.latest_at("images/rgb8", at={"since start": 4.5}) is None
    assert recording.latest_at("images/rgb8", at={"since start": 4.6}).times["frame"] == 3


def test_clears_end_what_was_there(stored):
    _, recording = stored
    for entity in ("images/l8", "flat/points", "flat/labels"):
        assert at(recording, entity, 5) is not None
        assert at(recording, entity, 6) is None
    assert at(recording, "images/rgb8", 6) is not None


def test_what_has_no_place_is_told_and_is_no_error(rrd, tmp_path, caplog):
    summary = ingest(rrd, tmp_path / "store")
    assert (summary.format, summary.errors) == ("rerun", {})
    (told,) = [record.getMessage() for record in caplog.records if record.name == rerun_rrd.__name__]
    assert told.startswith("drive.rrd: not logged")
    assert "Boxes3D (3 rows), Image:opacity (3 rows), Scalars (3 rows), Transform3D (3 rows), note (3 rows)" in told


def test_provenance_says_the_file_and_the_row(stored, rrd):
    frame = at(stored[1], "images/rgb8", 3)
    row = rows(rrd)["/images/rgb8"][0]["id"].hex().upper()
    assert frame.provenance["uri"] == rrd.as_uri()
    assert frame.provenance["member"] == f"app/rec-1, row {row}, Image"
    assert frame.provenance["content_hash"].startswith("blake2b:")


def test_back_to_rerun_the_rows_are_the_same(stored, rrd, tmp_path):
    exported = write_rrd(stored[1], tmp_path / "back.rrd")
    assert (exported.left_out, exported.errors, exported.lossy) == ({}, 0, {})
    assert exported.frames == len(stored[1])
    assert exported.bytes_out == (tmp_path / "back.rrd").stat().st_size
    before, after = rows(rrd), rows(tmp_path / "back.rrd")
    compared = 0
    for entity in before.keys() - {"/__properties", "/robot/arm", "/robot/speed"}:
        ours = after[entity]
        if entity in (
            "/images/bgr8",
            "/images/bgra8",
            "/files/png",
            "/depth/file",
            r"/world/wide\ ids",
            "/depth/default",
        ):
            assert [row["log_time"] for row in ours] == [row["log_time"] for row in before[entity]]
            continue  # the same pixels in another form: compared with what was logged, above
        wanted = [row for row in before[entity] if not {"note", "Image:opacity"} & row.keys()]
        assert equal(wanted, ours), entity
        compared += len(ours)
    assert compared > 30


def test_run_again_nothing_is_logged_twice(rrd, tmp_path):
    first = ingest(rrd, tmp_path / "store")
    again = ingest(rrd, tmp_path / "store")
    assert first.logged == first.values > 40
    assert (again.values, again.logged, again.stored_before) == (first.values, 0, first.values)


def test_log_calls_travel_to_other_processes(rrd):
    calls = list(rerun_rrd.read(SourceFiles(rrd)))
    assert {call.kind for call in calls} == {"image", "depth", "segmentation", "points", "annotation_context", "clear"}
    with lt.new_recording("app", "copied", sink="memory://rerun-pickle") as recording:
        for call in calls:
            copy = loads(dumps(call))
            assert copy.read() == call.read()
            copy.log(recording, copy.entity_path, copy.read())
        assert recording.errors == 0
