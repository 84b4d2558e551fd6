"""`lumatile ingest`: datasets in their own layouts, real pixels in them; what is stored, and what a second run does."""

import json
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from tests.support.tmpfs import tmpfs
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import FlushError, InvalidValueError
from lumatile.read.verify import verify
from lumatile_service.batch import LogCall, ingest
from lumatile_service.batch.engine import streams
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.formats.contents import segmentation_png
from lumatile_service.batch.formats.tum_rgbd import associate
from lumatile_service.batch.job import TooManyErrorsError
from lumatile_service.batch.source_files import SourceFiles, natural
from lumatile_service.cli.app import app


@pytest.fixture
def folder(tmp_path):
    """A directory of photographs in many formats, one of them broken and one cut off."""
    root = tmp_path / "photos"
    for directory in ("cats", "space"):
        (root / directory).mkdir(parents=True)
    for i in (0, 1, 2, 10):
        Image.fromarray(np.roll(data.cat(), i, 1)).save(root / "cats" / f"cat{i}.jpg")
    astronaut = Image.fromarray(data.astronaut())
    astronaut.save(root / "space" / "a.png")
    astronaut.save(root / "space" / "b.webp", lossless=True)
    astronaut.save(root / "space" / "c.bmp")
    Image.fromarray(data.moon()).save(root / "space" / "d.tiff")
    whole = (root / "cats" / "cat0.jpg").read_bytes()
    (root / "space" / "e.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "space" / "f.jpg").write_bytes(b"\xff\xd8 nothing")
    Image.fromarray(data.coffee()).save(root / "top.jpg")
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    astronaut.save(root / ".hidden" / "a.png")
    return root


def recording_of(store, summary):
    return lt.open_store(store).recording(summary.recording_id)


def test_an_image_folder(tmp_path, folder):
    store = tmp_path / "store"
    summary = ingest(folder, store)
    assert (summary.format, summary.values, summary.logged, summary.stored_before) == ("images", 11, 11, 0)
    assert sum(summary.errors.values()) == 2
    assert {uri.rpartition("/")[2] for uri in summary.examples.values()} == {"e.jpg", "f.jpg"}
    recording = recording_of(store, summary)
    assert sorted(recording.entities()) == ["cats", "photos", "space"]
    by_name = {}
    for entity in recording.entities():
        for frame in recording.frames(entity):
            by_name[frame.provenance["uri"].rpartition("/")[2]] = frame
    assert {name: by_name[f"cat{name}.jpg"].times["image"] for name in (0, 1, 2, 10)} == {0: 0, 1: 1, 2: 2, 10: 3}
    for i in (0, 1, 2, 10):
        assert by_name[f"cat{i}.jpg"].source() == (folder / "cats" / f"cat{i}.jpg").read_bytes()
    for name in ("a.png", "b.webp", "c.bmp"):
        np.testing.assert_array_equal(by_name[name].source(), data.astronaut())
    np.testing.assert_array_equal(by_name["d.tiff"].source(), data.moon())
    assert by_name["a.png"].provenance["uri"] == (folder / "space" / "a.png").as_uri()
    assert by_name["e.jpg"].provenance["content_hash"].startswith("blake2b:")
    assert "truncated" in by_name["e.jpg"].error
    assert verify(store).ok


def test_run_again_it_does_what_is_missing_and_notices_what_has_changed(tmp_path, folder):
    store = tmp_path / "store"
    first = ingest(folder, store)
    again = ingest(folder, store)
    assert again.recording_id == first.recording_id
    assert (again.values, again.logged, again.stored_before, again.bytes_out) == (11, 0, 11, 0)
    Image.fromarray(data.coffee()).save(folder / "space" / "g.png")
    Image.fromarray(data.rocket()).save(folder / "cats" / "cat1.jpg")
    third = ingest(folder, store)
    assert (third.values, third.logged, third.stored_before, third.changed) == (12, 2, 10, 1)
    recording = recording_of(store, third)
    assert recording.latest_at("cats", image=1).source() == (folder / "cats" / "cat1.jpg").read_bytes()
    assert len(recording.frames("cats")) == 5, "what was there before stays"


JOB = """
import sys
from lumatile_service.batch import ingest
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.engine.call_logger import CallLogger

before = CallLogger.log
def do(self, call, recording):
    before(self, call, recording)
    recording.flush()
    sys.stdout.write(call.uri + "\\n")
    sys.stdout.flush()
CallLogger.log = do
ingest(sys.argv[1], sys.argv[2], threads=2)
"""


def test_killed_at_any_moment_the_next_run_does_what_is_missing_and_stores_each_once(tmp_path):
    root, store = tmp_path / "many", tmp_path / "store"
    root.mkdir()
    for i in range(60):
        Image.fromarray(np.roll(data.cat()[:64, :64], i, 0)).save(root / f"{i}.png")
    rng = np.random.default_rng(0)
    durable = set()
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", JOB, root, store], stdout=subprocess.PIPE, text=True)
        for _ in range(len(durable) + int(rng.integers(2, 12))):  # those before are skipped, and said too
            durable.add(process.stdout.readline().strip())
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        durable.update(line.strip() for line in process.stdout.readlines() if line.endswith("\n"))
        process.stdout.close()
        process.wait()
    summary = ingest(root, store)
    assert (summary.values, summary.logged + summary.stored_before) == (60, 60)
    assert summary.stored_before >= len(durable) > 20
    frames = recording_of(store, summary).frames("many")
    assert sorted(frame.times["image"] for frame in frames) == list(range(60))
    for frame in frames:
        np.testing.assert_array_equal(frame.source(), np.roll(data.cat()[:64, :64], frame.times["image"], 0))
    assert verify(store).ok


@pytest.mark.parametrize(("options", "most"), [({"max_errors": 0}, 0), ({"max_errors": 1}, 1)])
def test_a_job_stops_after_too_many_bad_values_and_goes_on_when_they_are_borne(tmp_path, folder, options, most):
    for i in range(3):
        (folder / "cats" / f"bad{i}.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(TooManyErrorsError, match=rf"stopped after \d+ bad values, more than {most}"):
        ingest(folder, tmp_path / "store", threads=1, **options)
    summary = ingest(folder, tmp_path / "store")
    assert summary.values == 14
    assert sum(summary.errors.values()) == 5
    assert summary.stored_before >= 1


def test_a_bomb_is_refused_from_its_header(tmp_path):
    (tmp_path / "d").mkdir()
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    picture.save(tmp_path / "d" / "a.png")
    content = bytearray((tmp_path / "d" / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 65_500, 65_500)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "d" / "bomb.png").write_bytes(content)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    (reason,) = summary.errors
    assert "65500 x 65500" in reason
    assert summary.logged == 2


def test_a_file_that_cannot_be_read_is_an_error_row_and_is_tried_again(tmp_path, folder):
    (folder / "space" / "gone.png").symlink_to(tmp_path / "nowhere")
    calls = find_reader(SourceFiles(folder), None, None)[1](SourceFiles(folder))
    assert len(calls) == 11  # a link to nothing is no file
    (folder / "space" / "gone.png").unlink()
    Image.fromarray(data.coffee()).save(folder / "space" / "gone.png")

    summary = ingest(folder, tmp_path / "store", reader="tests.service.batch.test_batch:reader_whose_file_vanishes")
    assert [reason for reason in summary.errors if "gone.png" in reason]
    Image.fromarray(data.coffee()).save(folder / "space" / "gone.png")
    again = ingest(folder, tmp_path / "store")
    assert (again.logged, again.changed) == (1, 1)
    frame = recording_of(tmp_path / "store", again).latest_at("space", image=6)
    np.testing.assert_array_equal(frame.source(), data.coffee())


def reader_whose_file_vanishes(files):
    calls = find_reader(files, "images", None)[1](files)
    Path(files._root, "space", "gone.png").unlink()
    return calls


def own_reader(files):
    """A reader of one's own: gray values from text."""
    for path in files.under("", ".txt"):
        yield LogCall(
            entity_path="text",
            kind="image",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=lambda recording, entity, content: recording.log_image(
                entity, np.array([line.split() for line in content.decode().splitlines()], np.uint8)
            ),
            times={"when": 7},
        )


def test_a_reader_of_ones_own(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "d" / "b.txt").write_text("1 x\n")
    summary = ingest(tmp_path / "d", tmp_path / "store", reader="tests.service.batch.test_batch:own_reader")
    assert list(summary.errors.values()) == [1]
    good, bad = recording_of(tmp_path / "store", summary).frames("text")
    if good.error:
        good, bad = bad, good
    np.testing.assert_array_equal(good.source(), [[1, 2, 3], [4, 5, 6]])
    assert good.times["when"] == np.datetime64(7, "ns")
    assert "ValueError" in bad.error or "invalid literal" in bad.error


def bad_reader(files):
    """Values that cannot be logged, and values that cannot be read, each at three paths."""
    for path in ("site: A/cam", "/cam/", "cam"):
        yield LogCall(
            entity_path=path,
            kind="image",
            uri=files.url,
            read=lambda: b"",
            log=lambda recording, entity, _: recording.log_image(entity, np.zeros((4, 4, 7), np.uint8)),
        )
        yield LogCall(
            entity_path=path, kind="image", uri=files.url, member="gone", read=lambda: {}["gone"], log=segmentation_png
        )


def test_an_error_row_has_the_reason_alone_and_equal_reasons_are_counted_together(tmp_path):
    (tmp_path / "d").mkdir()
    summary = ingest(tmp_path / "d", tmp_path / "store", reader="tests.service.batch.test_batch:bad_reader")
    recording = recording_of(tmp_path / "store", summary)
    assert recording.entities() == ["cam", "site: A/cam"]
    (shape,) = {reason for reason in summary.errors if reason.startswith("image must be HxW")}
    assert summary.errors == {shape: 3, "KeyError: 'gone'": 3}
    assert summary.examples.keys() == summary.errors.keys()
    assert {frame.error for path in recording.entities() for frame in recording.frames(path)} == summary.errors.keys()


def labelled_reader(files):
    """Class ids, behind the colors of the classes."""
    yield LogCall(
        entity_path="labels",
        kind="annotation_context",
        uri=files.uri("classes"),
        read=lambda: b"1 coin",
        log=lambda recording, entity, _: recording.log_annotation_context(entity, (1, "coin", (200, 100, 0))),
    )
    for number, path in enumerate(files.under("", ".png")):
        yield LogCall(
            entity_path="labels/ids",
            kind="segmentation",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=segmentation_png,
            sequences={"frame": number},
        )


def test_a_context_colors_also_what_a_later_run_logs(tmp_path):
    root, store, reader = tmp_path / "d", tmp_path / "store", "tests.service.batch.test_batch:labelled_reader"
    root.mkdir()
    ids = (data.coins() > 100).astype(np.uint8)
    for number in range(6):
        Image.fromarray(np.roll(ids, number, 1)).save(root / f"{number}.png")
        if number in (0, 5):
            summary = ingest(root, store, reader=reader, threads=3)
    assert (summary.logged, summary.stored_before) == (5, 2)
    table = recording_of(store, summary).frames_table()
    assert table["kind"].to_pylist().count("annotation_context") == 1
    assert len({hash_ for hash_ in table["palette_hash"].to_pylist() if hash_}) == 1
    for frame in recording_of(store, summary).frames("labels/ids"):
        np.testing.assert_array_equal(frame.source(), np.roll(ids, frame.times["frame"], 1))
        assert {tuple(color) for color in frame.colors()[frame.ids() == 1]} == {(200, 100, 0, 255)}


def test_a_store_that_cannot_be_written_ends_the_job_at_once(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "store").write_text("a file")
    for i in range(100):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / "d" / f"{i}.png")
    with pytest.raises(FlushError, match=r"^[12] logged values are not durable: the store must be a directory"):
        ingest(tmp_path / "d", tmp_path / "store", threads=1)


def test_a_disk_that_stays_full_ends_the_job_and_says_so(tmp_path, monkeypatch):
    """Calls wait for room in a queue that is much smaller than what is to be stored."""
    monkeypatch.setattr(streams, "PATIENCE", 0.5)
    (tmp_path / "d").mkdir()
    for i in range(60):
        Image.fromarray(np.roll(data.coffee(), i, 0)).resize((1920, 1080)).save(tmp_path / "d" / f"{i}.jpg")
    with tmpfs(tmp_path / "disk", "60m") as disk, pytest.raises(FlushError, match="No space left"):
        ingest(tmp_path / "d", disk / "store", threads=2)


def test_the_reader_of_the_guide(tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "batch.md").read_text()
    (code,) = re.findall(r"```py\n(# my_formats.py\n.*?)```", guide, re.DOTALL)
    (command,) = re.findall(r"lumatile (ingest data --store runs --reader my_formats:thermal)\n", guide)
    (tmp_path / "my_formats.py").write_text(code)
    (tmp_path / "data" / "scans").mkdir(parents=True)
    scans = np.random.default_rng(0).integers(0, 65536, (2, 480, 640), np.uint16)
    for i, scan in enumerate(scans):
        scan.tofile(tmp_path / "data" / "scans" / f"{i}.raw")
    script = "from lumatile_service.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for frame in lt.open_store(tmp_path / "runs").recording().frames("camera/thermal"):
        np.testing.assert_array_equal(frame.source(), scans[frame.times["frame"]])


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


def test_a_source_or_format_that_there_is_not(tmp_path):
    with pytest.raises(InvalidValueError, match="a source must be a directory"):
        ingest(tmp_path / "nowhere", tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidValueError, match="looks like none of the formats"):
        ingest(tmp_path / "empty", tmp_path / "store")
    with pytest.raises(InvalidValueError, match=r"the format must be one of .*, not 'foo'"):
        ingest(tmp_path / "empty", tmp_path / "store", format="foo")
    with pytest.raises(InvalidValueError, match="a reader must be 'module:function'"):
        ingest(tmp_path / "empty", tmp_path / "store", reader="nothing")
    assert not (tmp_path / "store").exists()


def test_numbers_in_names_are_sorted_by_their_values():
    assert sorted(["b10", "b9", "a", "b"], key=natural) == ["a", "b", "b9", "b10"]


def test_the_command(tmp_path, folder):
    run = CliRunner().invoke
    store = str(tmp_path / "store")
    planned = json.loads(run(app, ["ingest", str(folder), "--store", store, "--dry-run", "--json"]).stdout)
    assert planned["values"] == 11
    assert not (tmp_path / "store").exists()
    done = run(app, ["ingest", str(folder), "--store", store, "--json"])
    assert done.exit_code == 1, "there are error rows"
    summary = json.loads(done.stdout)
    assert summary["recording_id"] == planned["recording_id"]
    assert 0.7 < planned["bytes_out"] / summary["bytes_out"] < 1.5
    again = run(app, ["ingest", str(folder), "--store", store])
    strict = run(app, ["ingest", str(folder), "--store", str(tmp_path / "other"), "--strict"])
    assert strict.exit_code == 1
    assert "bad values, more than 0" in strict.stderr
    assert "0 of 11 values logged, 11 were stored before" in again.stdout
    assert "truncated JPEG" in again.stdout
