"""`repr` of what a store gives: one line that says what a person wants to know, never an error, and no tile is read."""

import numpy as np
import pytest

import lumatile as lt
from lumatile.errors import CorruptStoreError
from lumatile.read.frame_row import FrameRow
from lumatile.storage.object_directory import ObjectStore

IMAGE = np.zeros((480, 640, 3), np.uint8)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("store")
    recording = lt.new_recording("app", "run", sink=path)
    lt.set_time_sequence("frame", 42, recording=recording)
    recording.log_image("camera/rgb", IMAGE)
    recording.log_image("camera/static", IMAGE, timeless=True)
    with pytest.warns(lt.LumatileWarning):
        recording.log_image("camera/bad", np.zeros(3))
    recording.log_points("lidar", np.zeros((10, 3), np.float32), colors=np.zeros((10, 4), np.uint8), labels=["a"] * 10)
    recording.log_cleared("camera/rgb")
    recording.disconnect()
    return path


@pytest.fixture
def recording(path):
    return lt.open_store(path).recording()


def test_a_store_says_where_it_is_and_how_many_recordings_it_has(path, tmp_path):
    assert repr(lt.open_store(path)) == f"<Store {path} recordings=1>"
    store = lt.open_store(tmp_path)
    assert repr(store) == f"<Store {tmp_path} recordings=0>"
    tmp_path.rmdir()
    assert repr(store) == f"<Store {tmp_path}>"


def test_a_bucket_is_not_asked(monkeypatch):
    from lumatile.read.store import Store

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # nobody answers there
    assert repr(Store(ObjectStore("s3://bucket/runs"))) == "<Store s3://bucket/runs>"


def test_a_recording_says_its_ids_its_frames_and_its_entities(recording):
    assert repr(recording) == (
        "<RecordingReader 'run' application='app' frames=5 "
        "entities=['camera/bad', 'camera/rgb', 'camera/static', 'lidar']>"
    )


def test_a_recording_of_many_entities_names_the_first_of_them(tmp_path):
    recording = lt.new_recording("app", "run", sink=tmp_path)
    empty = lt.open_store(tmp_path).recording("run")
    for i in range(8):
        recording.log_image(f"camera/{i}", IMAGE[:2, :2])
    recording.disconnect()
    assert repr(empty) == "<RecordingReader 'run' application=None frames=0 entities=[]>"
    empty.refresh()
    assert repr(empty).endswith(
        "frames=8 entities=['camera/0', 'camera/1', 'camera/2', 'camera/3', 'camera/4', ... 3 more]>"
    )


def test_a_recording_says_that_segments_are_damaged(path, recording):
    recording.damaged["segment"] = "why"
    assert repr(recording).endswith(" damaged_segments=1>")


def test_a_frame_says_what_was_logged_and_when(recording):
    image, clear = recording.frames("camera/rgb")
    assert repr(image) == (
        "<Frame image 'camera/rgb' shape=(480, 640, 3) dtype=uint8 format=rgba16float levels=3 "
        f"log_time={image.times['log_time']} frame=42>"
    )
    assert repr(clear) == f"<Frame clear 'camera/rgb' log_time={clear.times['log_time']} frame=42>"
    (static,) = recording.frames("camera/static")
    assert f"levels=3 timeless=True log_time={static.times['log_time']}>" in repr(static)
    (bad,) = recording.frames("camera/bad")
    assert repr(bad).startswith(f"<Frame image 'camera/bad' error={bad.error!r} log_time=")


def test_points_say_how_many_they_are_and_their_columns(recording):
    (frame,) = recording.frames("lidar")
    assert repr(frame).startswith("<Frame points 'lidar' shape=(10, 3) dtype=float32 levels=1 log_time=")
    assert repr(frame.points()) == "<PointCloud points=10 dimensions=3 dtype=float32 columns=[colors, labels]>"


def test_nothing_of_a_tiles_file_is_read(path, recording):
    frames = [frame for entity in recording.entities() for frame in recording.frames(entity)]
    tiles = path / "run" / "tiles"
    tiles.rename(path / "moved")
    try:
        assert all("\n" not in repr(frame) for frame in frames)
    finally:
        (path / "moved").rename(tiles)


@pytest.mark.parametrize("column", ["shape", "dtype"])
def test_a_damaged_row_is_no_error(recording, monkeypatch, column):
    def broken(_):
        raise CorruptStoreError

    monkeypatch.setattr(FrameRow, column, property(broken))
    frame = recording.frames("camera/rgb")[0]
    assert f" {column}=? " in repr(frame)
