"""Rerun's latest-at: components that were logged at different rows, static ones, and clears."""

import cv2
import numpy as np
import pytest
import rerun as rr
from skimage import data
from tests.support.rerun_files import written

import lumatile as lt
from lumatile.errors import ImageFileError
from lumatile_service.batch import ingest
from lumatile_service.batch.formats.rerun import values as rrd_values
from lumatile_service.batch.formats.rerun.file import RrdFile
from lumatile_service.batch.formats.rerun.pixels import rerun_pixels
from lumatile_service.batch.formats.rerun.values import RrdValues
from lumatile_service.export.rerun_rrd import write_rrd

PHOTO = data.astronaut()[:256, :320]


def stored(tmp_path, log, name="rows.rrd"):
    path = written(tmp_path / name, log)
    summary = ingest(path, tmp_path / "store")
    assert summary.errors == {}
    return lt.open_store(tmp_path / "store").recording(summary.recording_id)


def test_a_static_format_and_a_column_of_buffers_are_images(tmp_path):
    """As Rerun's own example of image columns does it."""
    frames = np.stack([np.roll(PHOTO, i, 1) for i in range(20)])

    def log(recording):
        image_format = rr.components.ImageFormat(width=320, height=256, color_model="RGB", channel_datatype="U8")
        recording.log("images", rr.Image.from_fields(format=image_format), static=True)
        recording.send_columns(
            "images",
            indexes=[rr.TimeColumn("step", sequence=range(20))],
            columns=rr.Image.columns(buffer=frames.reshape(20, -1)),
        )

    recording = stored(tmp_path, log)
    assert len(recording.frames("images")) == 20
    for step in range(20):
        np.testing.assert_array_equal(recording.latest_at("images", step=step).source(), frames[step])


def test_columns_that_were_sent_one_after_the_other_meet_at_their_instants(tmp_path):
    positions = np.arange(30, dtype=np.float32).reshape(10, 3)
    colors = np.arange(10, dtype=np.uint32) << 8 | 255

    def log(recording):
        index = [rr.TimeColumn("frame", sequence=range(10)), rr.TimeColumn("run", sequence=[7] * 10)]
        recording.send_columns("p", indexes=index, columns=rr.Points3D.columns(positions=positions))
        recording.send_columns("p", indexes=index, columns=rr.Points3D.columns(colors=colors))

    recording = stored(tmp_path, log)
    assert len(recording.frames("p")) == 10
    for frame in range(10):
        points = recording.latest_at("p", frame=frame).points()
        np.testing.assert_array_equal(points.positions, positions[frame : frame + 1])
        np.testing.assert_array_equal(points.colors, [[0, 0, frame, 255]])


def test_what_changes_alone_is_shown_with_what_stays(tmp_path, monkeypatch):
    """Also where what stays is in another chunk, which is not in memory any more."""
    monkeypatch.setattr(rrd_values, "CACHE_BYTES", 1)
    cloud = np.random.default_rng(3).normal(size=(50_000, 3)).astype(np.float32)

    def log(recording):
        recording.set_time("frame", sequence=0)
        recording.log("cloud", rr.Points3D(cloud))
        recording.flush()
        for frame in range(1, 6):
            recording.set_time("frame", sequence=frame)
            recording.log("cloud", rr.Points3D.from_fields(radii=[frame / 8]))
            recording.flush()

    recording = stored(tmp_path, log)
    for frame in range(1, 6):
        points = recording.latest_at("cloud", frame=frame).points()
        np.testing.assert_array_equal(points.positions, cloud)
        assert (points.radii == frame / 8).all()
    assert recording.latest_at("cloud", frame=0).points().radii is None


def test_too_few_of_a_component_repeat_the_last_and_too_many_are_cut(tmp_path):
    def log(recording):
        recording.log("few", rr.Points2D([[0, 0]] * 4, radii=[1, 2], labels=["a", "b", "c"]))
        recording.log("many", rr.Points2D([[0, 0]] * 2, radii=[1, 2, 3], class_ids=[4, 5, 6]))

    recording = stored(tmp_path, log)
    few, many = (recording.latest_at(entity).points() for entity in ("few", "many"))
    assert few.radii.tolist() == [1, 2, 2, 2]
    assert few.labels == ["a", "b", "c", "c"]
    assert (many.radii.tolist(), many.class_ids.tolist()) == ([1, 2], [4, 5])


def test_components_without_what_they_belong_to_are_told(tmp_path, caplog):
    def log(recording):
        recording.log("p", rr.Points3D.from_fields(colors=[255]))

    stored_nothing = written(tmp_path / "lone.rrd", log)
    assert ingest(stored_nothing, tmp_path / "store").values == 0
    assert "Points3D without positions (1 rows)" in caplog.text


def test_no_points_are_no_points_and_a_cleared_image_is_none(tmp_path):
    def log(recording):
        for frame, (points, image) in enumerate([(rr.Points3D([[1, 2, 3]]), rr.Image(PHOTO))] * 2):
            recording.set_time("frame", sequence=10 * frame)
            recording.log("points", points)
            recording.log("image", image)
            recording.set_time("frame", sequence=10 * frame + 5)
            recording.log("points", rr.Points3D([]))
            recording.log("image", rr.Image.cleared())

    recording = stored(tmp_path, log)
    for frame, there in ((0, True), (5, False), (10, True), (15, False)):
        assert len(recording.latest_at("points", frame=frame).points()) == there
        assert (recording.latest_at("image", frame=frame) is not None) == there


PARTS = ("positions", "colors", "labels", "class_ids")


def random_rows(seed):
    """What is logged: (frame, entity, components, or None for a clear, recursive), in log order."""
    rng = np.random.default_rng(seed)
    for number in range(40):
        frame = int(rng.integers(0, 10))
        if rng.random() < 0.2:
            yield frame, str(rng.choice(["a", "a/p", "b"])), None, bool(rng.random() < 0.5)
        else:
            made = {
                "positions": [[float(number), 0.0, 0.0]],
                "colors": [number << 8 | 255],
                "labels": [str(number)],
                "class_ids": [number],
            }
            named = [part for part in PARTS if rng.random() < 0.4]
            yield frame, "a/p", {part: made[part] if rng.random() < 0.85 else [] for part in named}, False


def shown_at(logged, frame):
    """Components of a/p at a frame, by the rules, one row after the other; nothing without positions."""
    held = {}
    for _, entity, parts, recursive in sorted((row for row in logged if row[0] <= frame), key=lambda row: row[0]):
        if parts is not None:
            held.update(parts)
        elif entity == "a/p" or (entity == "a" and recursive):
            held = {}
    return {part: value for part, value in held.items() if value} if held.get("positions") else {}


@pytest.mark.parametrize("seed", range(25))
def test_at_each_instant_an_entity_shows_the_latest_of_each_component(tmp_path, seed):
    logged = list(random_rows(seed))

    def log(recording):
        for frame, entity, parts, recursive in logged:
            recording.set_time("frame", sequence=frame)
            points = None if parts is None else rr.Points3D.from_fields(**parts)
            recording.log(entity, rr.Clear(recursive=recursive) if points is None else points)

    file = RrdFile(written(tmp_path / "rows.rrd", log))
    values = sorted(RrdValues(file, file.recordings[0]), key=lambda value: (value.sequences["frame"], value.row_id))
    for frame in range(10):
        found = {}
        for value in (value for value in values if value.sequences["frame"] <= frame):
            if value.archetype != "Clear":
                found = {part: array.to_pylist() for part, array in value.parts.items() if len(array)}
            elif value.entity_path == "/a/p" or (value.entity_path == "/a" and value.parts["is_recursive"][0].as_py()):
                found = {}
        assert (found if "positions" in found else {}) == shown_at(logged, frame)


def test_a_value_replaces_the_one_before_in_rerun_too(tmp_path):
    """Of another archetype, and with fewer components; read with the rules above, which are Rerun's."""
    with lt.new_recording("app", "replaced", sink=str(tmp_path / "first")) as log:
        log.set_time_sequence("frame", 0)
        log.log_points("p", [[1, 2, 3]], colors=[[9, 8, 7]], labels="one")
        log.set_time_sequence("frame", 1)
        log.log_points("p", [[4, 5, 6]])
        log.set_time_sequence("frame", 2)
        log.log_points("p", [[4, 5]], radii=2)
        log.set_time_sequence("frame", 3)
        log.log_image("p", PHOTO)
    log.disconnect()
    write_rrd(lt.open_store(tmp_path / "first").recording("replaced"), tmp_path / "replaced.rrd")
    ingest(tmp_path / "replaced.rrd", tmp_path / "store", recording_id="again")
    recording = lt.open_store(tmp_path / "store").recording("again")
    assert len(recording.frames("p")) == 4
    assert recording.latest_at("p", frame=0).points().labels == ["one"]
    points = recording.latest_at("p", frame=1).source()
    assert points.keys() == {"positions"}
    assert recording.latest_at("p", frame=2).source().keys() == {"positions", "radii"}
    np.testing.assert_array_equal(recording.latest_at("p", frame=3).source(), PHOTO)


I420 = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2YUV_I420)
LUMA, CHROMA = I420[:256], I420[256:].reshape(2, 128, 160)
BLOCKS = np.repeat(np.repeat(CHROMA, 2, 1), 2, 2)
NV12 = np.concatenate([LUMA.ravel(), CHROMA.transpose(1, 2, 0).ravel()]).tobytes()
YUY2 = np.dstack([LUMA[:, ::2], BLOCKS[0][:, ::2], LUMA[:, 1::2], BLOCKS[1][:, ::2]]).tobytes()
OPENCV = {
    26: (NV12, lambda: cv2.cvtColor(np.frombuffer(NV12, np.uint8).reshape(384, 320), cv2.COLOR_YUV2RGB_NV12)),
    27: (YUY2, lambda: cv2.cvtColor(np.frombuffer(YUY2, np.uint8).reshape(256, 320, 2), cv2.COLOR_YUV2RGB_YUY2)),
}


def yuv_format(number, width=320, height=256):
    return {"width": width, "height": height, "pixel_format": number, "color_model": None, "channel_datatype": None}


@pytest.mark.parametrize("number", OPENCV)
def test_nv12_and_yuy2_are_what_opencv_makes_of_them(number):
    content, expected = OPENCV[number]
    pixels = rerun_pixels(content, yuv_format(number))
    assert pixels.shape == PHOTO.shape
    difference = np.abs(pixels.astype(int) - expected())
    assert difference.max() <= 2  # both are BT.601; OpenCV computes in integers, and rounds


@pytest.mark.parametrize(
    ("number", "rows", "columns"), [(39, 1, 1), (40, 1, 1), (49, 1, 2), (50, 1, 2), (20, 2, 2), (44, 2, 2)]
)
def test_planes_are_bt709_with_the_range_that_is_said(number, rows, columns):
    """Kr, Kb of ITU-R BT.709; Rerun's coefficients have three digits, and it cuts off."""
    y, u, v = LUMA, BLOCKS[0], BLOCKS[1]
    content = b"".join(plane.tobytes() for plane in (y, u[::rows, ::columns], v[::rows, ::columns]))
    zero, y_range, c_range = (16, 219, 224) if number in (39, 49, 20) else (0, 255, 255)
    luma, blue, red = (y - float(zero)) / y_range, (u - 128.0) / c_range, (v - 128.0) / c_range
    kr, kb = 0.2126, 0.0722
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    expected = np.clip(np.dstack([r, g, b]), 0, 1) * 255
    assert np.abs(rerun_pixels(content, yuv_format(number)) - expected).max() < 1.5


def test_luma_alone_is_gray():
    np.testing.assert_array_equal(rerun_pixels(LUMA.tobytes(), yuv_format(30)), LUMA)
    limited = rerun_pixels(LUMA.tobytes(), yuv_format(41))
    assert np.abs(limited - np.clip((LUMA - 16.0) / 219, 0, 1) * 255).max() <= 1


@pytest.mark.parametrize(
    ("content", "image_format", "reason"),
    [
        (NV12[:-1], yuv_format(26), "must not have 122879 bytes"),
        (NV12, yuv_format(128), "Bayer"),
        (bytes(9), yuv_format(26, 3, 2), "even sides"),
        (bytes(10), yuv_format(None, 3, 3), "must not have 10 bytes"),
        (bytes(9), yuv_format(None, 3, 3) | {"color_model": 77}, "ImageFormat"),
    ],
)
def test_bytes_that_do_not_fit_their_format_say_so(content, image_format, reason):
    with pytest.raises(ImageFileError, match=reason):
        rerun_pixels(content, image_format)
