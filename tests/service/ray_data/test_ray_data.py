"""Stores as stages of Ray Data pipelines, in a real Ray: what goes in comes out, and each value once.

Longer than other files: its tests share one Ray.
"""

import gc
import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from skimage import data

import lumatile as lt
from lumatile.errors import FlushError, InvalidTypeError, InvalidValueError, LumatileWarning, NotFoundError
from lumatile.log.recording import RecordingStream
from lumatile.read.verify import verify
from lumatile.settings import RecordingSettings
from lumatile.sink.sinks import SinkAt
from lumatile.write import merge

pytest.importorskip("ray")
pytest.importorskip("pandas")

import ray
from ray.data.expressions import col
from tests.support.jpeg_files import encoded
from tests.support.service_process import short_directory
from tests.support.tmpfs import tmpfs

from lumatile_service.ray_data import FrameSource, TileSink, TileSource, tile_sink
from lumatile_service.ray_data.write_task import write_rows

pytestmark = [
    pytest.mark.alone,
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")  # Ray's own
        for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning")
    ),
]

ROOT = Path(__file__).parents[3]

PHOTOS = {
    "astronaut": data.astronaut(),
    "cat": data.chelsea(),
    "coffee": data.coffee(),
    "rocket": data.rocket(),
}
"""Of four sizes."""


@pytest.fixture(scope="module", autouse=True)
def _ray():
    """A Ray of this module alone, which ends with it."""
    with pytest.MonkeyPatch.context() as patch, short_directory() as directory:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listen on loopback alone
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its functions go to the workers
        ray.init(
            "local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=300_000_000,
            logging_level="error",
            log_to_driver=False,
            _temp_dir=str(directory),
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Ray does not wait for the processes that it has ended
            ray.shutdown()
            gc.collect()


@pytest.fixture
def store(tmp_path):
    """A directory for a store."""
    return tmp_path / "store"


def recording_of(store):
    return lt.open_store(store).recording("run")


def numbers(count, blocks=1):
    """Rows {"id": 0} ... as `blocks` blocks."""
    return ray.data.range(count, override_num_blocks=blocks)


def pixels(number):
    """A photograph for each number."""
    return np.roll(PHOTOS["cat"][:90, :120], number, 1)


def log_pixels(recording, row):
    """One image a row."""
    recording.set_time_sequence("frame", row["id"])
    recording.log_image("camera", pixels(row["id"]))


def written(dataset, store, log, **options):
    """Write a dataset into the recording "run"; gives the summary."""
    sink = TileSink(store, log=log, application_id="tests", recording_id="run", tile_format="srgb8", **options)
    dataset.write_datasink(sink)
    return sink.summary


def check_each_once(store, count):
    """`count` images of `log_pixels` are in a store, each once, and nothing else."""
    frames = recording_of(store).frames("camera")
    assert sorted(frame.times["frame"] for frame in frames) == list(range(count))
    for frame in frames:
        np.testing.assert_array_equal(frame.source(), pixels(frame.times["frame"]))
    report = verify(store)
    assert report.ok
    assert (report.frames, report.duplicates, report.dropped) == (count, 0, 0)


# the sink


def test_photographs_go_through_a_pipeline_into_a_store_and_come_back_bit_for_bit(store):
    rows = [{"name": name, "number": i, "image": image} for i, (name, image) in enumerate(PHOTOS.items())]

    def flipped(row):
        return {**row, "image": row["image"][::-1]}

    def log(recording, row):
        recording.set_time_sequence("photo", row["number"])
        recording.log_image(f"photos/{row['name']}", row["image"])

    summary = written(ray.data.from_items(rows).map(flipped), store, log)
    assert (summary.recording_id, summary.rows, summary.values) == ("run", 4, 4)
    assert (summary.stored_before, summary.changed, summary.errors, summary.other_errors) == (0, 0, {}, 0)
    assert summary.nbytes == sum(info.nbytes for info in lt.open_store(store).recordings())
    recording = recording_of(store)
    for number, (name, image) in enumerate(PHOTOS.items()):
        (frame,) = recording.frames(f"photos/{name}")
        assert frame.times["photo"] == number
        assert frame.format == "rgba8unorm-srgb"
        np.testing.assert_array_equal(frame.source(), image[::-1])
    assert verify(store).ok

    source = FrameSource(store, "run", kinds="image", content="source")
    read = {row["entity_path"]: row for row in ray.data.read_datasource(source).take_all()}
    assert {path.removeprefix("photos/") for path in read} == PHOTOS.keys()
    for number, (name, image) in enumerate(PHOTOS.items()):
        row = read[f"photos/{name}"]
        assert dict(row["sequences"]) == {"photo": number}
        assert row["content_error"] is None
        np.testing.assert_array_equal(row["content"], image[::-1])


def test_times_of_one_row_do_not_leak_into_the_next(store):
    def log(recording, row):
        if row["id"] == 0:
            recording.set_time_sequence("frame", 0)
        recording.log_image("camera", pixels(row["id"]))

    written(numbers(2), store, log)
    assert [frame.times.get("frame") for frame in recording_of(store).frames("camera")] == [0, None]


@pytest.mark.parametrize("fused", [False, True], ids=["a task of its own", "in one task with the stages before"])
def test_a_write_task_that_is_killed_is_tried_again_and_each_value_is_stored_once(store, tmp_path, fused):
    marker = tmp_path / "killed"

    def log(recording, row):
        if row["id"] == 13 and not marker.exists():
            recording.flush()  # some are durable, as after half a second
            recording.log_image("camera", np.zeros((4, 4), np.uint8))  # this one is on its way
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        log_pixels(recording, row)

    dataset = numbers(30, 3).map(lambda row: {"id": row["id"]})
    summary = written(dataset, store, log, **({"min_bytes_per_write": None} if fused else {}))
    assert marker.exists()
    assert (summary.rows, summary.values, summary.changed, summary.errors) == (30, 30, 0, {})
    assert summary.stored_before >= 3, "what was durable is not stored again"
    check_each_once(store, 30)


def test_a_task_that_ray_tries_again_in_the_same_process_stores_each_value_once(store, tmp_path):
    marker = tmp_path / "failed"

    def log(recording, row):
        log_pixels(recording, row)
        if row["id"] == 5 and not marker.exists():
            recording.flush()
            marker.touch()
            raise RuntimeError("a failure that passes")

    context = ray.data.DataContext.get_current()
    context.retried_map_errors, context.max_map_retries = ["that passes"], 2
    try:
        summary = written(numbers(8), store, log, strict=True)
    finally:
        context.retried_map_errors, context.max_map_retries = False, 0
    assert (summary.values, summary.stored_before) == (8, 6)
    check_each_once(store, 8)


def test_where_a_task_that_is_tried_again_sees_other_rows_nothing_is_lost(store, tmp_path):
    marker = tmp_path / "killed"

    def log(recording, row):
        again = marker.exists()
        recording.set_time_sequence("frame", row["id"] + (100 if again and row["id"] >= 2 else 0))
        recording.log_image("camera", pixels(row["id"]))
        if row["id"] == 4 and not again:
            recording.flush()
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.warns(LumatileWarning, match="3 values of tasks that were tried again"):
        summary = written(numbers(6), store, log)
    assert (summary.values, summary.stored_before, summary.changed) == (6, 2, 3)
    frames = recording_of(store).frames("camera")
    assert sorted(f.times["frame"] for f in frames) == [0, 1, 2, 3, 4, 102, 103, 104, 105]
    assert verify(store).ok


def test_where_two_attempts_run_at_once_a_reader_sees_each_value_once(store):
    settings = RecordingSettings(application_id="tests", recording_id="run", max_block=None)
    written = [
        write_rows(
            [{"id": i} for i in range(5)],
            log_pixels,
            str(store),
            settings,
            backend="numpy",
            producer=b"p" * 16,
            again=again,
            patience=1.0,
        )
        for again in (False, False, True)  # the second does not know of the first
    ]
    assert [(each.values, each.stored_before) for each in written] == [(5, 0), (5, 0), (0, 5)]
    assert verify(store).duplicates == 5
    assert [frame.times["frame"] for frame in recording_of(store).frames("camera")] == list(range(5))


def test_a_task_looks_for_an_earlier_attempt_only_where_there_was_one(tmp_path):
    @ray.remote(max_retries=1)
    def tried_before(marker):
        if marker is not None and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return tile_sink._tried_before()

    assert ray.get([tried_before.remote(None), tried_before.remote(tmp_path / "killed")]) == [False, True]


def test_a_second_write_is_a_second_write(store):
    sink = TileSink(store, log=log_pixels, application_id="tests", recording_id="run")
    for _ in range(2):
        numbers(3).write_datasink(sink)
        assert sink.summary.values == 3
    assert Counter(f.times["frame"] for f in recording_of(store).frames("camera")) == {0: 2, 1: 2, 2: 2}


def test_classes_have_the_colors_of_a_context_that_the_driver_logs(store):
    ids = (PHOTOS["coffee"][..., 0] // 64).astype(np.uint8)

    def log(recording, row):
        recording.log_segmentation_image("camera/classes", ids)

    driver = lt.new_recording("tests", "run", sink=store)
    driver.log_annotation_context("camera", [(2, "cup", (1, 2, 3))])
    driver.disconnect()
    written(numbers(1), store, log)
    (frame,) = recording_of(store).frames("camera/classes")
    assert (frame.colors()[ids == 2] == (1, 2, 3, 255)).all()


def test_bad_rows_become_error_rows_and_the_others_are_stored(store):
    jpeg = encoded(PHOTOS["coffee"])

    def log(recording, row):
        recording.set_time_sequence("frame", row["id"])
        match row["id"]:
            case 1:
                recording.log_image("camera", np.zeros((3, 3, 7), np.uint8))
            case 2:
                recording.log_image_file("camera", img_bytes=jpeg[: len(jpeg) // 2])
            case 3:
                row["no such column"]
            case _:
                recording.log_image_file("camera", img_bytes=jpeg)

    with pytest.warns(LumatileWarning, match="3 of 6 values are bad"):
        summary = written(numbers(6, 2), store, log)
    assert (summary.rows, summary.values, summary.other_errors) == (6, 6, 0)
    assert sum(summary.errors.values()) == 3
    assert summary.errors["KeyError: 'no such column'"] == 1
    assert sum(reason.startswith("image must be HxW") for reason in summary.errors) == 1
    recording = recording_of(store)
    failed = {f.times["frame"]: f for path in recording.entities() for f in recording.frames(path or "/") if f.error}
    assert failed.keys() == {1, 2, 3}
    assert (failed[1].kind, failed[1].entity_path) == (failed[2].kind, failed[2].entity_path) == ("image", "camera")
    assert (failed[3].kind, failed[3].entity_path) == ("ext", "")
    assert failed[3].error == "KeyError: 'no such column'"
    assert sorted(f.times["frame"] for f in recording.frames("camera") if not f.error) == [0, 4, 5]


def test_strict_the_first_bad_row_ends_the_job_and_what_was_before_is_stored(store):
    def log(recording, row):
        recording.set_time_sequence("frame", row["id"])
        recording.log_image("camera", np.zeros((4, 4) if row["id"] < 3 else (2, 2, 2, 2), np.uint8))

    sink = TileSink(store, log=log, application_id="tests", recording_id="run", strict=True)
    with pytest.raises(InvalidValueError, match="image must"):
        numbers(6).write_datasink(sink)
    assert sink.summary is None
    assert [f.times["frame"] for f in recording_of(store).frames("camera")] == [0, 1, 2]


def test_a_full_disk_fails_the_job_when_patience_ends_also_while_a_call_waits_for_room(tmp_path):
    with tmpfs(tmp_path / "disk", "2m") as disk:
        sink = TileSink(
            disk / "store",
            log=lambda recording, _: recording.log_image("camera", PHOTOS["astronaut"]),
            application_id="tests",
            patience=1.0,
            queue_bytes=1 << 20,
        )
        with pytest.raises(FlushError, match=r"not durable.*No space left"):
            numbers(200).write_datasink(sink)


def test_a_disk_that_has_room_again_in_time_loses_nothing(tmp_path):
    with tmpfs(tmp_path / "disk", "7m") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(6 << 20))

        def log(recording, row):
            log_pixels(recording, row)
            if row["id"] == 39:
                with pytest.raises(FlushError):
                    recording.flush()
                filler.unlink()

        summary = written(numbers(40), disk / "store", log)
        assert (summary.values, summary.errors) == (40, {})
        check_each_once(disk / "store", 40)


def test_a_store_that_cannot_be_written_fails_the_job(tmp_path):
    (tmp_path / "file").touch()
    sink = TileSink(tmp_path / "file" / "store", log=log_pixels, application_id="tests")
    with pytest.raises(FlushError, match="not durable"):
        numbers(3).write_datasink(sink)


def test_settings_are_checked_where_the_sink_is_made(tmp_path):
    with pytest.raises(InvalidValueError, match="tile_format must be one of"):
        TileSink(tmp_path, log=log_pixels, application_id="tests", tile_format="jpeg")
    with pytest.raises(InvalidValueError, match="a store must be a path or a URL"):
        TileSink("grpc://127.0.0.1:9876", log=log_pixels, application_id="tests")
    with pytest.raises(InvalidTypeError, match="log must be a function"):
        TileSink(tmp_path, log="camera", application_id="tests")


def test_an_empty_dataset_writes_nothing(store):
    summary = written(numbers(5).filter(expr=col("id") < 0), store, log_pixels)
    assert (summary.rows, summary.values) == (0, 0)


# the sources


@pytest.fixture
def log(store):
    """A recording in the store."""
    recording = lt.new_recording("tests", "run", sink=store)
    yield recording
    recording.disconnect()


def frames_of(store, **options):
    return ray.data.read_datasource(FrameSource(store, "run", **options)).take_all()


def stream(store, producer):
    """A stream whose values have known keys."""
    settings = RecordingSettings(application_id="tests", recording_id="run")
    return RecordingStream(settings, SinkAt(url=str(store)), producer=producer)


def test_rows_are_those_of_the_reader_whatever_the_parallelism(store, log):
    for i in range(40):
        log.set_time_sequence("frame", i)
        log.set_time_nanos("clock", 10**18 + i)
        log.log_image(f"camera/{i % 3}", pixels(i))
        if i % 10 == 9:
            log.flush()
    log.log_points("lidar", np.eye(3))
    log.flush()
    expected = recording_of(store).frames_table()
    for blocks in (1, 3, 50):
        dataset = ray.data.read_datasource(FrameSource(store, "run"), override_num_blocks=blocks)
        assert dataset.count() == 41
        rows = sorted(dataset.take_all(), key=lambda row: (row["log_time"], row["producer"], row["seq"]))
        assert rows == expected.to_pylist()
    few = frames_of(store, entities=["camera/1", "/lidar"], kinds=("image",))
    assert {row["entity_path"] for row in few} == {"camera/1"}
    assert len(few) == 13


def test_what_a_reader_hides_is_hidden(store, monkeypatch):
    monkeypatch.setattr(merge, "FAN_IN", 4)
    first, second = stream(store, b"p" * 16), stream(store, b"p" * 16)
    for i in range(8):
        first.set_time_sequence("frame", i)
        first.log_image("camera", pixels(i))
        first.flush()
    second.set_time_sequence("frame", 0)
    second.log_image("camera", pixels(99))  # another value of the same key, in a later segment
    second.disconnect()
    first.disconnect()
    dropper = lt.new_recording("tests", "run", sink=store, queue_bytes=1, queue_policy="drop_oldest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LumatileWarning)
        for _ in range(50):
            dropper.log_image("noise", PHOTOS["cat"])
    with pytest.raises(FlushError):
        dropper.disconnect()
    report = verify(store)
    assert (report.ok, report.duplicates) == (True, 1)
    assert report.dropped
    schemas = [pa.ipc.open_file(file).schema for file in (Path(store) / "run" / "frames").glob("*.arrow")]
    assert any(json.loads(schema.metadata[b"lumatile.replaces"]) for schema in schemas), "some segments were merged"
    rows = frames_of(store, content="source")
    assert {row["kind"] for row in rows} == {"image"}, "no gaps"
    cameras = sorted((dict(row["sequences"])["frame"], row) for row in rows if row["entity_path"] == "camera")
    assert [frame for frame, _ in cameras] == list(range(8))
    for frame, row in cameras:
        np.testing.assert_array_equal(row["content"], pixels(frame))
    tiles = ray.data.read_datasource(TileSource(store, "run", entities="camera", levels=0)).take_all()
    assert Counter(tile["seq"] for tile in tiles) == dict.fromkeys(range(8), 1)


def test_a_source_shows_what_was_committed_when_it_was_made(store, log):
    log.log_image("camera", pixels(0))
    log.flush()
    source = FrameSource(store, "run")
    log.log_image("camera", pixels(1))
    log.flush()
    assert ray.data.read_datasource(source).count() == len(ray.data.read_datasource(source).take_all()) == 1
    assert len(frames_of(store)) == 2


def test_frames_that_were_merged_away_meanwhile_are_read_where_they_are_now(store, monkeypatch):
    recording = stream(store, b"p" * 16)
    for i in range(15):
        recording.set_time_sequence("frame", i)
        recording.log_image("camera", pixels(i))
        recording.flush()
    frames, tiles = FrameSource(store, "run", content="source"), TileSource(store, "run", levels=0)
    names = {path.name for path in (store / "run" / "frames").iterdir()}
    recording.log_image("camera", pixels(15))
    recording.disconnect()
    monkeypatch.setattr(merge, "KEEP_SECONDS", 0.0)
    lt.new_recording("tests", "run", sink=store).disconnect()
    assert not names & {path.name for path in (store / "run" / "frames").iterdir()}
    rows = ray.data.read_datasource(frames).take_all()
    assert sorted(row["seq"] for row in rows) == list(range(15))
    for row in rows:
        np.testing.assert_array_equal(row["content"], pixels(row["seq"]))
    assert sorted(tile["seq"] for tile in ray.data.read_datasource(tiles).take_all()) == list(range(15))


def test_arrays_of_one_dtype_are_tensors_and_what_is_missing_is_an_empty_one(store, log):
    depth = (np.arange(600 * 300, dtype=np.uint16)).reshape(600, 300)
    for i in range(3):
        log.log_depth_image("depth", depth[: 200 * (i + 1)] + i)
    with pytest.warns(LumatileWarning):
        log.log_depth_image("depth", np.zeros((2, 2, 2), np.uint16))
    log.flush()
    (tiles,) = (store / "run" / "tiles").iterdir()
    content = bytearray(tiles.read_bytes())
    content[content.find((depth[:1, 5:9] / np.float32(1000)).astype("<f4").tobytes())] ^= 1  # of the first
    tiles.write_bytes(content)
    source = FrameSource(store, "run", content="source")
    rows = sorted(ray.data.read_datasource(source).take_all(), key=lambda row: row["seq"])
    for i in (1, 2):
        assert rows[i]["content"].dtype == np.uint16
        np.testing.assert_array_equal(rows[i]["content"], depth[: 200 * (i + 1)] + i)
        assert rows[i]["content_error"] is None
    assert [rows[i]["content"].shape for i in (0, 3)] == [(0, 0), (0, 0)]
    assert "CorruptStoreError" in rows[0]["content_error"]
    assert rows[3]["content_error"] == rows[3]["error"] is not None
    good = ray.data.read_datasource(source).filter(expr=col("content_error").is_null())
    sums = good.map_batches(lambda batch: {"sum": [int(image.sum()) for image in batch["content"]]}).take_all()
    expected = [int((depth[: 200 * (i + 1)] + i).sum(dtype=np.uint64)) for i in (1, 2)]
    assert sorted(row["sum"] for row in sums) == expected


def test_jpeg_files_are_their_bytes(store, log):
    files = [encoded(image) for image in PHOTOS.values()]
    for file in files:
        log.log_image_file("camera", img_bytes=file)
    log.flush()
    rows = sorted(frames_of(store, content="source"), key=lambda row: row["seq"])
    assert [row["content"] for row in rows] == files


def test_content_of_many_kinds_is_what_the_reader_gives(store, log):
    log.log_annotation_context("/", [(1, "road")])
    log.log_image("camera", PHOTOS["cat"])
    log.log_image("camera", PHOTOS["cat"].astype(np.uint16))
    log.log_image_file("camera", img_bytes=encoded(PHOTOS["cat"]))
    log.log_points("lidar", np.eye(3), labels=["a", None, "b"])
    log.log_extension_components("car", {"speed": 3.5})
    log.flush()
    recording = recording_of(store)
    expected = {f.key[1]: f.source() for path in recording.entities() for f in recording.frames(path or "/")}
    dataset = ray.data.read_datasource(FrameSource(store, "run", content="source"), override_num_blocks=3)
    rows = {row["seq"]: row["content"] for row in dataset.take_all()}
    np.testing.assert_equal(rows, expected)
    assert rows[2].dtype == np.uint16


def test_source_that_was_not_kept_is_said_to_be_so(store):
    recording = lt.new_recording("tests", "run", sink=store, keep_source=False)
    recording.log_image("camera", np.zeros((4, 4), np.float32))
    recording.disconnect()
    (row,) = frames_of(store, content="source")
    assert row["content"] is None
    assert row["content_error"].startswith("SourceNotKeptError")


def test_tiles_are_those_of_the_reader(store, log):
    log.log_image("camera", PHOTOS["astronaut"])
    log.log_image("camera", PHOTOS["rocket"].astype(np.float32) / 255)
    log.log_segmentation_image("classes", (PHOTOS["coffee"][..., 0] // 32).astype(np.uint8))
    log.log_points("lidar", np.random.default_rng(0).random((70_000, 3)))
    log.flush()
    recording = recording_of(store)
    frames = {f.key[1]: f for path in recording.entities() for f in recording.frames(path or "/")}
    dataset = ray.data.read_datasource(TileSource(store, "run"), override_num_blocks=2)
    rows = dataset.take_all()
    assert dataset.count() == len(rows) == sum(frame.tile_count for frame in frames.values())
    dtypes = {"rgba16float": ("<f2", 4), "rgba8unorm-srgb": ("u1", 4), "r8uint": ("u1", 1)}
    checked = Counter()
    for row in rows:
        frame = frames[row["seq"]]
        assert (row["entity_path"], row["kind"], row["error"]) == (frame.entity_path, frame.kind, None)
        if row["format"] is None:
            continue
        dtype, channels = dtypes[row["format"]]
        lines = np.frombuffer(row["payload"], np.uint8).reshape(row["height"], row["row_pitch"])
        texels = lines[:, : row["width"] * np.dtype(dtype).itemsize * channels].copy().view(dtype)
        place = {name: row[name] for name in ("plane", "level", "x", "y")}
        np.testing.assert_array_equal(texels.reshape(row["height"], row["width"], channels), frame.tile(**place))
        checked[frame.kind, row["plane"]] += 1
    assert checked.keys() == {("image", "pixels"), ("segmentation", "ids"), ("segmentation", "colors")}
    joined = b"".join(row["payload"] for row in rows if (row["seq"], row["plane"]) == (1, "source"))
    assert joined == (PHOTOS["rocket"].astype(np.float32) / 255).tobytes()


def test_planes_levels_and_columns_are_chosen(store, log):
    log.log_image("camera", PHOTOS["astronaut"])
    log.log_segmentation_image("classes", PHOTOS["astronaut"][..., 0])
    log.flush()
    tiles = ray.data.read_datasource(TileSource(store, "run", planes=["ids", "pixels"], levels=1))
    assert sorted((t["plane"], t["level"], t["width"]) for t in tiles.take_all()) == [
        ("ids", 1, 256),
        ("pixels", 1, 256),
    ]
    every = ray.data.read_datasource(TileSource(store, "run", levels=(0, 1)))
    assert every.count() == 15
    assert every.select_columns(["plane", "x"]).take(1)[0].keys() == {"plane", "x"}
    frames = ray.data.read_datasource(FrameSource(store, "run", content="source"))
    assert frames.select_columns(["kind"]).take_all() == [{"kind": "image"}, {"kind": "segmentation"}]
    with pytest.raises(InvalidValueError, match="columns must be among"):
        frames.select_columns(["pixels"]).take_all()


def test_what_is_not_there_is_said_where_the_source_is_made(store, log):
    log.log_image("camera", pixels(0))
    log.flush()
    with pytest.raises(NotFoundError, match="no recording 'walk'"):
        FrameSource(store, "walk")
    with pytest.raises(NotFoundError, match="entities must be of the recording"):
        TileSource(store, "run", entities="kamera")
    with pytest.raises(InvalidValueError, match="kinds must be among"):
        FrameSource(store, "run", kinds="picture")
    with pytest.raises(InvalidValueError, match="content must be"):
        FrameSource(store, "run", content="pixels")
    with pytest.raises(InvalidValueError, match="planes must be among"):
        TileSource(store, "run", planes="pixel")
    with pytest.raises(InvalidValueError, match="levels must be"):
        TileSource(store, "run", levels=-1)


def test_the_example_of_the_guide_runs(tmp_path):
    text = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    section = text.partition("## Ray Data\n")[2].partition("\n## ")[0]
    program = "\n".join(re.findall(r"```py\n(.*?)```", section, re.DOTALL))
    (tmp_path / "photos").mkdir()
    from PIL import Image

    for name, image in PHOTOS.items():
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.png")
    with short_directory() as directory:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(directory)},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr
    frames = lt.open_store(tmp_path / "runs").recording("photos").frames("photos")
    assert {frame.ext["name"]: frame.source().shape for frame in frames} == {
        f"{name}.png": image.shape for name, image in PHOTOS.items()
    }
    assert "rows=4, values=8" in done.stdout
    means = re.findall(r"'brightness': ([0-9.]+)", done.stdout)
    assert [float(mean) for mean in means] == sorted(image.mean() for image in PHOTOS.values())
    assert verify(tmp_path / "runs").ok
