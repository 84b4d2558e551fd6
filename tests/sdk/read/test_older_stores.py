"""A store that version 0.1 has written is read as that version read it.

`store_v1` was written by this, with the format before record batches were shared by small frames:

    random = np.random.default_rng(7)
    recording = lt.new_recording("old", "run", sink="store_v1")
    recording.log_annotation_context("/", [(1, "car", (255, 0, 0))], timeless=True)
    recording.set_time_sequence("frame", 1)
    recording.log_image("image", random.integers(0, 256, (260, 10, 3), np.uint8))
    recording.set_time_sequence("frame", 2)
    recording.log_depth_image("depth", random.integers(0, 5000, (20, 30), np.uint16), meter=1000)
    recording.log_segmentation_image("ids", random.integers(0, 3, (20, 30), np.uint8))
    colors = random.integers(0, 256, (50, 3), np.uint8)  # after the positions
    recording.log_points("points", random.random((50, 3)), colors=colors, labels=[...], radii=0.5)
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

import lumatile as lt
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile.storage.open_storage import open_storage
from lumatile.storage.write_behind import WriteBehind
from lumatile.write.merge import merge

STORE = Path(__file__).with_name("store_v1")


@pytest.fixture(params=["as it is", "merged"])
def store(request, tmp_path):
    shutil.copytree(STORE, tmp_path / "store")
    if request.param == "merged":
        storage = open_storage(tmp_path / "store").recording("run")
        disk = WriteBehind()
        merge(storage, RecordingSettings(application_id="old", recording_id="run"), disk, storage.committed())
        disk.close()
    return tmp_path / "store"


def test_version_1_is_read_and_merged_exactly(store):
    random = np.random.default_rng(7)
    image = random.integers(0, 256, (260, 10, 3), np.uint8)
    depth = random.integers(0, 5000, (20, 30), np.uint16)
    ids = random.integers(0, 3, (20, 30), np.uint8)
    positions, colors = random.random((50, 3)), random.integers(0, 256, (50, 3), np.uint8)
    reader = lt.open_store(store).recording("run")
    np.testing.assert_array_equal(reader.latest_at("image", frame=1).source(), image)
    np.testing.assert_array_equal(reader.latest_at("depth").source(), depth)
    np.testing.assert_array_equal(reader.latest_at("ids").source(), ids)
    points = reader.latest_at("points")
    np.testing.assert_array_equal(points.source()["positions"], positions)
    np.testing.assert_array_equal(points.points().colors[:, :3], colors)
    assert points.points().labels == [str(i) for i in range(50)]
    assert reader.latest_at("point") is None
    report = verify(store)
    assert report.ok, report.problems
    assert report.frames == 8
