"""Small values share record batches and conversions, and come back bit for bit all the same."""

import numpy as np
import pyarrow as pa
import pytest

import lumatile as lt
from lumatile.read.verify import verify
from lumatile.storage.open_storage import open_storage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.merge import merge
from lumatile_service.embedded import pipeline

RNG = np.random.default_rng(0)


@pytest.fixture
def recording(tmp_path):
    recording = lt.new_recording("app", "run", sink=str(tmp_path), strict=True)
    yield recording
    recording.disconnect()


def bytes_of(store):
    return sum(path.stat().st_size for path in store.rglob("*.arrow"))


def batches(store):
    files = [pa.ipc.open_file(path) for path in (store / "run" / "tiles").glob("*.arrow")]
    return sum(file.num_record_batches for file in files)


@pytest.mark.parametrize(
    ("log", "payload"),
    [
        (lambda rec, data: rec.log_point("p", data[0]), 12),
        (lambda rec, data: rec.log_points("p", data[:10]), 120),
        (lambda rec, data: rec.log_points("p", data[:10], colors=[255, 0, 0], class_ids=1), 120),
        (lambda rec, data: rec.log_points("p", data), 12_000),
        (lambda rec, data: rec.log_image("i", data.view(np.uint8)[:32, :3].reshape(4, 8, 3)), 4 * 256),
    ],
    ids=["point", "10 points", "10 points with colors and classes", "1000 points", "image"],
)
def test_a_small_value_takes_at_most_100_bytes_more_than_its_tiles(tmp_path, one_segment, recording, log, payload):
    for i in range(1000):
        recording.set_time_sequence("frame", i)
        log(recording, RNG.random((1000, 3), np.float32))
    recording.flush()
    assert bytes_of(tmp_path) / 1000 <= payload + 100
    assert batches(tmp_path) < 50


def test_small_and_large_values_come_back_in_the_order_in_which_they_were_logged(tmp_path, recording):
    picture = RNG.integers(0, 256, (300, 300, 3), np.uint8)
    clouds = RNG.random((40, 7, 3))
    for i, cloud in enumerate(clouds):
        recording.set_time_sequence("frame", i)
        recording.log_points("mixed", cloud if i % 2 else cloud.astype(np.float32))
        if i % 10 == 0:
            recording.log_image("mixed", picture + np.uint8(i))
    recording.flush()
    frames = lt.open_store(tmp_path).recording("run").frames("mixed")
    assert [frame.kind for frame in frames if frame.times["frame"] % 10 == 0] == ["points", "image"] * 4
    for frame in frames:
        i = frame.times["frame"]
        if frame.kind == "image":
            np.testing.assert_array_equal(frame.source(), picture + np.uint8(i))
        else:
            positions = frame.source()["positions"]
            assert positions.dtype == (np.float64 if i % 2 else np.float32)
            np.testing.assert_array_equal(positions, clouds[i].astype(positions.dtype))
            np.testing.assert_array_equal(frame.points().positions, positions)
    assert verify(tmp_path).ok


@pytest.mark.parametrize("special", [np.nan, np.inf, -0.0, 1e300, 1e-300, 2**-149, 16_777_217.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_positions_that_float32_does_not_hold_come_back_bit_for_bit(tmp_path, recording, special, dtype):
    with np.errstate(over="ignore", under="ignore"):
        positions = np.array([[1, 2, 3], [special, 5, 6]]).astype(dtype)
    recording.log_points("p", positions)
    recording.log_points(
        "q", positions, radii=[special if abs(special) < 1e10 else 1, -0.0], colors=[[1, 2, 3], [4, 5, 6]]
    )
    recording.flush()
    reader = lt.open_store(tmp_path).recording("run")
    for path in "pq":
        assert reader.latest_at(path).source()["positions"].tobytes() == positions.tobytes()
    assert list(reader.latest_at("q").source()) == ["positions", "colors", "radii"]


def test_columns_come_back_as_they_were_given(tmp_path, recording):
    given = {
        "positions": np.arange(12).reshape(4, 3),
        "colors": np.array([[255, 0, 9, 100]] * 4, np.uint8),
        "radii": np.float32([1, 2, 3, 4]),
        "class_ids": np.array([1, 2, 3, 65_535]),
        "keypoint_ids": np.array([3], np.uint8),
        "identifiers": np.array([2**63, 1, 2, 3], np.uint64),
    }
    recording.log_points("p", **given)
    recording.log_points("one color", given["positions"], colors=np.array([1, 2, 3], np.uint8))
    recording.flush()
    reader = lt.open_store(tmp_path).recording("run")
    source = reader.latest_at("p").source()
    assert source.keys() == given.keys()
    for name, column in given.items():
        assert source[name].dtype == column.dtype
        np.testing.assert_array_equal(source[name], column)
    frame = reader.latest_at("one color")
    assert frame.source()["colors"].shape == (3,)
    np.testing.assert_array_equal(frame.points().colors, [[1, 2, 3, 255]] * 4)
    assert [name for name in frame.stored_tiles().planes() if name == "source"] == []


def test_a_cloud_that_cannot_be_converted_affects_no_other(tmp_path, recording, monkeypatch):
    def fails_once(points, colors):
        if len(points) == 3:
            raise MemoryError("no room")
        return small_cloud(points, colors)

    small_cloud = pipeline.small_cloud
    monkeypatch.setattr(pipeline, "small_cloud", fails_once)
    for n in (1, 2, 3, 4):
        recording.log_points("p", np.ones((n, 2), np.float32))
    recording.flush()
    frames = lt.open_store(tmp_path).recording("run").frames("p")
    assert [len(frame.source()["positions"]) for frame in frames] == [1, 2, 3, 4]


def test_a_merge_joins_shared_batches(tmp_path, one_segment, recording):
    clouds = RNG.random((6, 50, 3), np.float32)
    for cloud in clouds:
        recording.log_points("p", cloud)
        recording.flush()
    recording.disconnect()
    storage = open_storage(tmp_path).recording("run")
    files, disk = storage.committed(), WriteBehind()
    assert len(files) == 6
    merge(storage, recording.settings, disk, files)
    disk.close()
    storage.delete(files)
    assert batches(tmp_path) == 1
    assert verify(tmp_path).ok
    frames = lt.open_store(tmp_path).recording("run").frames("p")
    np.testing.assert_array_equal([frame.source()["positions"] for frame in frames], clouds)
