"""TUM RGB-D and KITTI: datasets in their own layouts, real pixels in them."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

import lumatile as lt
from lumatile_service.batch import SourceFiles, ingest
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.formats.tum_rgbd import associate


def recording_of(store, summary):
    return lt.open_store(store).recording(summary.recording_id)


def disparity_and_depth():
    """Real disparities of a stereo pair, and millimetres of it."""
    disparity = np.nan_to_num(data.stereo_motorcycle()[2], posinf=0)[:250, :370]
    depth = np.where(disparity > 0, 994.978 * 193.001 / np.maximum(disparity + 31.086, 1), 0)
    return disparity, depth


@pytest.fixture
def tum(tmp_path):
    """A TUM RGB-D sequence of three pairs, and a color image without a pair."""
    root = tmp_path / "rgbd_dataset"
    left = data.stereo_motorcycle()[0][:250, :370]
    _, depth = disparity_and_depth()
    for name in ("rgb", "depth"):
        (root / name).mkdir(parents=True)
    color, ranges = ["# color images", "# timestamp filename"], ["# depth maps"]
    for i in range(4):
        at = f"1305031102.{175304 + 33333 * i:06d}"
        Image.fromarray(np.roll(left, i, 1)).save(root / "rgb" / f"{at}.png")
        color.append(f"{at} rgb/{at}.png")
        if i < 3:
            at = f"1305031102.{160407 + 33333 * i:06d}"
            units = np.clip(np.roll(depth, i, 1) / 1000 * 5000, 0, 65535).astype(np.uint16)
            Image.fromarray(units).save(root / "depth" / f"{at}.png")
            ranges.append(f"{at} depth/{at}.png")
    (root / "rgb.txt").write_text("\n".join(color) + "\n")
    (root / "depth.txt").write_text("\n".join(ranges) + "\n")
    return root


def test_tum_rgbd(tmp_path, tum):
    summary = ingest(tum, tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("tum-rgbd", 7, {})
    recording = recording_of(tmp_path / "store", summary)
    depths = sorted(recording.frames("depth"), key=lambda frame: frame.times["frame"])
    assert [frame.times["frame"] for frame in depths] == [0, 1, 2]
    for i, frame in enumerate(depths):
        with Image.open(tum / "depth" / f"1305031102.{160407 + 33333 * i:06d}.png") as opened:
            stored = np.asarray(opened).astype(np.uint16)
        np.testing.assert_array_equal(frame.source(), stored)
        np.testing.assert_array_equal(frame.depth(), stored.astype(np.float32) / np.float32(5000))
        assert frame.times["time"] == np.datetime64(1305031102_160407_000 + 33333_000 * i, "ns")
    images = recording.frames("rgb")
    assert sorted("frame" in frame.times for frame in images) == [False, True, True, True]
    assert recording.latest_at("rgb", at={"time": 1305031102.18}).times["frame"] == 0


def test_a_list_that_leads_out_of_the_source_reads_nothing_there(tmp_path, tum):
    Image.fromarray(data.coins()).save(tmp_path / "secret.png")
    with (tum / "rgb.txt").open("a") as listed:
        listed.write("1305031103.0 ../secret.png\n")
    summary = ingest(tum, tmp_path / "store")
    assert [reason for reason in summary.errors if "there is no file '../secret.png'" in reason]
    assert summary.logged == 8


def test_times_are_associated_as_the_benchmarks_tool_does_it():
    ms = 1_000_000
    assert associate([0, 100 * ms], [15 * ms, 90 * ms]) == [(0, 15 * ms), (100 * ms, 90 * ms)]
    assert associate([0], [20 * ms]) == [], "less than 0.02 s"
    assert associate([0, 10 * ms], [9 * ms]) == [(10 * ms, 9 * ms)], "the closest first"
    assert associate([0, 10 * ms], [5 * ms, 11 * ms]) == [(0, 5 * ms), (10 * ms, 11 * ms)]


@pytest.fixture
def kitti(tmp_path):
    """A raw drive of two frames, and what the benchmarks have."""
    root = tmp_path / "2011_09_26_drive_0001_sync"
    left, right, _ = data.stereo_motorcycle()
    disparity, depth = disparity_and_depth()
    names = ("image_02/data", "image_03/data", "velodyne_points/data", "proj_depth/groundtruth/image_02", "disp_occ_0")
    for name in (*names, "label_2", "semantic"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(np.roll(left, i, 1)).save(root / f"image_02/data/{i:010d}.png")
        Image.fromarray(np.roll(right, i, 1)).save(root / f"image_03/data/{i:010d}.png")
        scan = np.concatenate([rng.normal(0, 20, (500, 3)), rng.uniform(0, 1, (500, 1))], 1).astype("<f4")
        (root / f"velodyne_points/data/{i:010d}.bin").write_bytes(scan.tobytes())
        metres = np.clip(depth / 1000 * 256, 0, 65535).astype(np.uint16)
        Image.fromarray(metres).save(root / f"proj_depth/groundtruth/image_02/{i:010d}.png")
        Image.fromarray((disparity * 256).astype(np.uint16)).save(root / f"disp_occ_0/{i:06d}_10.png")
        Image.fromarray((data.coins() // 32).astype(np.uint8)).save(root / f"semantic/{i:06d}_10.png")
        (root / f"label_2/{i:06d}.txt").write_text(
            "Car 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1.00 1.75 13.22 -1.62\n"
            "Pedestrian 0.00 0 0.21 423.17 173.67 433.17 224.03 1.60 0.38 0.30 -5.87 1.63 23.11 -0.03\n"
        )
    for name in ("image_02", "image_03", "velodyne_points"):
        (root / name / "timestamps.txt").write_text("2011-09-26 13:02:25.594360375\n2011-09-26 13:02:25.697\n")
    return root


def test_kitti(tmp_path, kitti):
    summary = ingest(kitti, tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("kitti", 14, {})
    recording = recording_of(tmp_path / "store", summary)
    assert sorted(recording.entities()) == [
        "disp_occ_0",
        "image_02",
        "image_03",
        "label_2",
        "proj_depth/groundtruth/image_02",
        "semantic",
        "velodyne_points",
    ]
    for entity, path, unit in (
        ("proj_depth/groundtruth/image_02", "proj_depth/groundtruth/image_02/0000000001.png", 256),
        ("disp_occ_0", "disp_occ_0/000001_10.png", 256),
    ):
        frame = recording.latest_at(entity, frame=1)
        with Image.open(kitti / path) as opened:
            stored = np.asarray(opened).astype(np.uint16)
        np.testing.assert_array_equal(frame.source(), stored)
        np.testing.assert_array_equal(frame.depth(), stored.astype(np.float32) / np.float32(unit))
    scan = np.fromfile(kitti / "velodyne_points/data/0000000001.bin", "<f4").reshape(-1, 4)
    points = recording.latest_at("velodyne_points", frame=1)
    source = points.source()
    np.testing.assert_array_equal(source["positions"], scan[:, :3])
    np.testing.assert_array_equal(source["colors"][:, 0], scan[:, 3])
    objects = recording.latest_at("label_2", frame=0).points()
    assert objects.labels == ["Car", "Pedestrian"]
    np.testing.assert_array_equal(objects.positions, np.float32([[1.00, 1.75, 13.22], [-5.87, 1.63, 23.11]]))
    np.testing.assert_array_equal(recording.latest_at("semantic", frame=0).ids(), data.coins() // 32)
    np.testing.assert_array_equal(recording.latest_at("image_03", frame=0).source(), data.stereo_motorcycle()[1])
    assert recording.latest_at("image_02", frame=0).times["time"] == np.datetime64("2011-09-26T13:02:25.594360375")
    assert recording.latest_at("image_02", frame=1).times["time"] == np.datetime64("2011-09-26T13:02:25.697")


def stamped(root, numbers, lines):
    """Write images of a raw drive with these numbers, and timestamps, of which None is an empty line."""
    (root / "image_02/data").mkdir(parents=True)
    for number in numbers:
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(root / f"image_02/data/{number:010d}.png")
    text = "".join("\n" if second is None else f"1970-01-01 00:00:{second:02d}.5\n" for second in lines)
    (root / "image_02/timestamps.txt").write_text(text)


@pytest.mark.parametrize(
    ("numbers", "lines", "seconds"),
    [
        ([0, 2, 4], [0, 1, 2, 3, 4, 5], [0, 2, 4]),  # a part of the frames was kept
        ([0, 1, 4], [0, 1, None, None, 4], [0, 1, 4]),  # lost frames, with empty lines as in drive 0009
        ([1, 2, 5], [1, 2, 5], [1, 2, 5]),  # lost frames, whose lines are lost as well
        ([0, 1, 7], [0, 1], [0, 1, None]),
    ],
)
@pytest.mark.filterwarnings("ignore::lumatile.LumatileWarning")
def test_kitti_takes_the_line_of_a_files_number(tmp_path, numbers, lines, seconds):
    stamped(tmp_path / "drive", numbers, lines)
    calls = find_reader(SourceFiles(tmp_path / "drive"), None, None)[1](SourceFiles(tmp_path / "drive"))
    found = [(call.sequences["frame"], call.times.get("time")) for call in calls]
    nanos = [None if second is None else second * 10**9 + 5 * 10**8 for second in seconds]
    assert found == list(zip(numbers, nanos, strict=True))


def test_kitti_names_files_that_have_no_time(tmp_path):
    stamped(tmp_path / "drive", [0, 1, 7], [0, 1])
    with pytest.warns(lt.LumatileWarning, match=r"image_02/timestamps.txt: 1 files have no line .*0000000007.png"):
        summary = ingest(tmp_path / "drive", tmp_path / "store")
    assert (summary.logged, summary.errors) == (3, {})


def test_kitti_objects_without_a_place_are_left_out(tmp_path, kitti):
    car = "Car 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1.00 1.75 13.22 -1.62\n"
    nowhere = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10\n"
    (kitti / "label_2/000000.txt").write_text(nowhere + car)
    (kitti / "label_2/000001.txt").write_text(nowhere)
    recording = recording_of(tmp_path / "store", ingest(kitti, tmp_path / "store"))
    objects = recording.latest_at("label_2", frame=0).points()
    assert objects.labels == ["Car"]
    np.testing.assert_array_equal(objects.positions, np.float32([[1.00, 1.75, 13.22]]))
    assert len(recording.latest_at("label_2", frame=1).points().positions) == 0
