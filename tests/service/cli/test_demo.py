"""The demo: real data, and pictures of what is really in the store."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("skimage", reason="the demo's data is in scikit-image's wheel")
pytest.importorskip("sklearn", reason="the demo's photographs are in scikit-learn's wheel")

from PIL import Image

import lumatile as lt
from lumatile_service.cli import main
from lumatile_service.demo import real_data


def run_demo(directory):
    """One run: its report."""
    with pytest.MonkeyPatch.context() as patch, (directory / "report.json").open("w") as stdout:
        patch.chdir(directory)
        patch.setattr("sys.argv", ["lumatile", "demo", "--json"])
        patch.setattr("sys.stdout", stdout)
        with pytest.raises(SystemExit) as exit_:
            main()
    assert not exit_.value.code
    return json.loads((directory / "report.json").read_text())


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def report(directory):
    return run_demo(directory)


@pytest.fixture(scope="module")
def recording(directory, report):
    return lt.open_store(directory / report["store"]).recording(report["recording_id"])


def test_everything_is_stored_without_an_error(recording):
    rows = recording.frames_table()
    assert rows["error"].null_count == len(rows)
    assert set(rows["kind"].to_pylist()) == {"image", "depth", "segmentation", "points", "annotation_context"}
    assert recording.entities() == [
        *("coins/instances", "coins/photo", "coins/sizes", "photos/gallery", "photos/moon", "photos/retina"),
        *("stereo/depth", "stereo/left", "stereo/points", "stereo/right"),
    ]


def test_photographs_and_files_come_back_as_they_are(recording):
    from skimage import data

    np.testing.assert_array_equal(recording.latest_at("stereo/left").source(), data.stereo_motorcycle()[0])
    np.testing.assert_array_equal(recording.latest_at("photos/gallery", frame=1).source(), data.chelsea())
    retina = recording.latest_at("photos/retina")
    assert retina.source() == real_data.photo_file("retina.jpg").read_bytes()
    assert retina.shape == (1411, 1411, 3)
    assert recording.latest_at("photos/moon").dtype == np.uint16


def test_depth_is_the_ground_truth_by_its_calibration(recording):
    from skimage import data

    disparity = data.stereo_motorcycle()[2].astype(np.float64)
    depth = recording.latest_at("stereo/depth").depth(level=0)
    known = np.isfinite(disparity)
    # millimetres, as the data sheet has it: Z = baseline * f / (d + doffs)
    np.testing.assert_allclose(depth[known], 193.001 * 994.978 / (disparity[known] + 31.086) / 1000, rtol=1e-6)
    assert (depth[~known] == 0).all()


def test_points_project_back_onto_their_pixels(recording):
    frame = recording.latest_at("stereo/points", frame=1)
    points, depth = frame.points(), recording.latest_at("stereo/depth", frame=1).depth(level=0)
    camera = np.array([[994.978, 0, 311.193], [0, 994.978, 254.877], [0, 0, 1]])
    x, y, z = camera @ points.positions.T.astype(np.float64)
    columns, rows = np.rint(x / z).astype(int), np.rint(y / z).astype(int)
    assert len(points) == (depth > 0).sum() > 100_000
    np.testing.assert_allclose(depth[rows, columns], z, rtol=1e-6)
    left = recording.latest_at("stereo/left").source()
    np.testing.assert_array_equal(points.colors[:, :3], left[rows, columns])


def test_the_depth_grows_over_the_frames(recording):
    valid = [int((frame.depth() > 0).sum()) for frame in recording.frames("stereo/depth")]
    assert valid == sorted(set(valid))
    assert len(valid) == 6


def test_the_segmentation_finds_the_24_coins(recording):
    instances = recording.latest_at("coins/instances").ids()
    sizes = recording.latest_at("coins/sizes").ids()
    assert np.unique(instances).tolist() == list(range(25))
    assert ((instances > 0) == (sizes > 0)).all()
    areas = np.bincount(instances.ravel())[1:]
    classes = [np.unique(sizes[instances == number]).tolist() for number in range(1, 25)]
    assert all(len(found) == 1 for found in classes)
    by_class = [areas[[found == [number] for found in classes]] for number in (1, 2, 3)]
    assert by_class[0].max() < by_class[1].min()
    assert by_class[1].max() < by_class[2].min()
    # every coin's middle is brighter than the ground around it
    photo = recording.latest_at("coins/photo").source()
    assert all(np.median(photo[instances == number]) > np.median(photo[instances == 0]) for number in range(1, 25))


def test_the_pictures_show_what_is_stored(directory, report):
    from skimage import data

    pictures = {}
    for picture in report["pictures"]:
        path = directory / picture["file"]
        assert path.stat().st_size == picture["bytes"]
        with Image.open(path) as image:
            pictures[path.stem] = np.asarray(image)
    left = data.stereo_motorcycle()[0]
    np.testing.assert_array_equal(pictures["stereo-left"][..., :3], left)
    sheet = pictures["demo"]
    # level 0 of the pyramid, between the lines that mark its tiles
    np.testing.assert_array_equal(sheet[54 + 1 : 54 + 256, 24 + 1 : 24 + 256], left[1:256, 1:256])
    assert pictures["coins-sizes"].shape == (303, 384, 4)
    assert (pictures["stereo-points"][..., 3] > 0).mean() > 0.3


def test_a_second_run_adds_a_recording(directory, report):
    again = run_demo(directory)
    assert again["recording_id"] != report["recording_id"]
    ids = {info.recording_id for info in lt.open_store(directory / "demo-store").recordings()}
    assert ids == {report["recording_id"], again["recording_id"]}


def test_without_its_data_it_says_what_to_install(directory, monkeypatch, capsys):
    monkeypatch.setattr("lumatile_service.cli.demo.find_spec", lambda module: None if module == "skimage" else sys)
    monkeypatch.setattr("sys.argv", ["lumatile", "demo"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 2
    assert "pip install scikit-image" in capsys.readouterr().err
