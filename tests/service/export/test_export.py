"""`lumatile export`: recordings as image folders and Parquet, read by other tools, and ingested again."""

import io
import json
import re
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage import data
from tests.support.shards import CAT, IDS, MILLIMETRES
from tests.support.tmpfs import tmpfs
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import InvalidValueError, NotFoundError
from lumatile_service.batch import ingest
from lumatile_service.batch.formats.contents import image_file
from lumatile_service.batch.source_files import natural
from lumatile_service.cli.app import app
from lumatile_service.export import export, parquet
from lumatile_service.export.extension_columns import ExtensionColumns
from lumatile_service.export.file_names import directory_name

ASTRONAUT = data.astronaut()
RGBA = np.dstack([ASTRONAUT[:200, :300], data.camera()[:200, :300]])
DEEP = ASTRONAUT[:250, :300].astype(np.uint16) * 257 + np.arange(300, dtype=np.uint16)[:, None] % 7
"""RGB of 16 bits that 8 bits don't hold."""
METRES = (data.coins() / np.float32(77)).astype(np.float32)


@pytest.fixture
def log(tmp_path):
    recording = lt.new_recording("export test", "run-1", sink=str(tmp_path / "runs"))
    yield recording
    recording.disconnect()


def log_pictures(log):
    """Entity -> what was logged there at frames 8, 9 and 10."""
    logged = {}
    for frame in (8, 9, 10):
        log.set_time_sequence("frame", frame)
        log.set_time_nanos("time", 1_700_000_000_123_456_789 + frame)
        for entity, method, array in (
            ("camera/rgb", log.log_image, np.roll(ASTRONAUT, frame, 1)),
            ("camera/gray", log.log_image, np.roll(data.camera(), frame, 1)),
            ("camera/rgba", log.log_image, np.roll(RGBA, frame, 1)),
            ("camera/deep", log.log_image, np.roll(DEEP, frame, 1)),
            ("camera/deep gray", log.log_image, np.roll(DEEP[..., 0], frame, 1)),
            ("camera/depth", log.log_depth_image, np.roll(MILLIMETRES, frame, 1)),
            ("camera/depth8", log.log_depth_image, np.roll(data.coins(), frame, 1)),
            ("camera/ids", log.log_segmentation_image, np.roll(IDS, frame, 1)),
            ("camera/ids16", log.log_segmentation_image, np.roll(IDS.astype(np.int64) * 7000, frame, 1)),
        ):
            method(entity, array)
            logged.setdefault(entity, []).append(array)
        log.log_image_file("camera/jpeg", img_bytes=CAT)
        logged.setdefault("camera/jpeg", []).append(CAT)
    log.flush()
    return logged


def ffmpeg_rgb48(path):
    """A 16-bit RGB PNG as FFmpeg reads it (Pillow makes 8 bits of it)."""
    with av.open(str(path)) as opened:
        (frame,) = opened.decode(video=0)
        assert frame.format.name == "rgb48be"
        return frame.to_ndarray(format="rgb48le")


def pixels(path):
    if path.parent.name == "deep":
        return ffmpeg_rgb48(path)
    return pillow(path)


def pillow(file):
    with Image.open(file) as opened:
        return np.asarray(opened)


def lines(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def equal(found, logged):
    if isinstance(logged, bytes):
        return found == logged
    return found.size == logged.size and np.array_equal(found.reshape(logged.shape), logged)


def test_image_files_have_what_was_logged_as_other_tools_read_them(tmp_path, log):
    logged = log_pictures(log)
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    assert (exported.frames, exported.left_out, exported.errors, exported.lossy) == (30, {}, 0, {})
    assert exported.bytes_out == sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    for entity, values in logged.items():
        files = sorted((tmp_path / "out" / entity).iterdir())
        suffix = ".jpg" if entity == "camera/jpeg" else ".png"
        assert [path.name for path in files] == [f"frame_{n:06d}{suffix}" for n in (8, 9, 10)]
        for path, value in zip(files, values, strict=True):
            if isinstance(value, bytes):
                assert path.read_bytes() == value
            else:
                found = pixels(path)
                np.testing.assert_array_equal(found, value)
                assert found.dtype == ("uint16" if value.dtype == np.int64 else value.dtype)


def test_a_folder_ingested_again_gives_equal_pixels(tmp_path, log):
    logged = log_pictures(log)
    export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    summary = ingest(tmp_path / "out", tmp_path / "again")
    assert (summary.format, summary.logged, summary.errors) == ("images", 30, {})
    recording = lt.open_store(tmp_path / "again").recording()
    assert recording.entities() == sorted(logged)
    for entity, values in logged.items():
        for frame in recording.frames(entity):
            assert equal(frame.source(), values[frame.times["image"]])


def test_the_metadata_say_what_each_file_is(tmp_path, log):
    log.log_annotation_context("camera", [(1, "coin", (200, 100, 0)), (2, "rim")])
    log.set_time_sequence("frame", 3)
    log.set_time_nanos("time", 1_700_000_000_123_456_789)
    log.log_segmentation_image("camera/ids", IDS)
    with log.provenance("file:///d/a.png", member="row=1", content_hash="blake2b:00"):
        log.log_depth_image("camera/depth", MILLIMETRES, meter=5000, ext={"lens": [1, 2]})
    log.reset_time()
    log.flush()
    export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    depth, ids = lines(tmp_path / "out")
    assert depth["file_name"] == "camera/depth/frame_000003.png"
    assert (tmp_path / "out" / depth["file_name"]).is_file()
    assert (depth["entity_path"], depth["kind"], depth["meter"]) == ("camera/depth", "depth", 5000)
    assert (depth["times"]["frame"], depth["times"]["time"]) == (3, "2023-11-14T22:13:20.123456789")
    assert (depth["shape"], depth["dtype"], depth["timeless"]) == ([303, 384], "uint16", False)
    assert depth["ext"] == {"lens": [1, 2]}
    assert depth["provenance"] == {"uri": "file:///d/a.png", "member": "row=1", "content_hash": "blake2b:00"}
    assert "classes" not in depth
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())[ids["classes"]]["classes"]
    (frame,) = lt.open_store(tmp_path / "runs").recording().frames("camera/ids")
    assert [(each["id"], each["label"]) for each in classes] == [(1, "coin"), (2, "rim")]
    for each in classes:
        assert each["color"] == frame.colors()[frame.ids() == each["id"]][0].tolist()


@pytest.mark.parametrize("store_floats", ["png", "npy"])
def test_floats_are_16_bit_png_or_exact(tmp_path, log, store_floats):
    linear = (ASTRONAUT[:60, :80].astype(np.float32) / 200).astype(np.float64)  # some over 1
    linear[0, :3] = [[1e300, -1e300, 0]] * 3
    log.log_image("hdr", linear)
    log.log_depth_image("depth", np.where(METRES > 3, np.nan, METRES))
    log.log_depth_image("far", METRES * 100)
    log.flush()
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images", floats=store_floats)
    by_entity = {line["entity_path"]: line for line in lines(tmp_path / "out")}
    path = {entity: tmp_path / "out" / line["file_name"] for entity, line in by_entity.items()}
    if store_floats == "npy":
        assert exported.lossy == {}
        assert by_entity["depth"]["meter"] == 1
        np.testing.assert_array_equal(np.load(path["hdr"]), linear)
        np.testing.assert_array_equal(np.load(path["depth"]), np.where(METRES > 3, np.nan, METRES))
        return
    assert exported.lossy == {"float depth: whole millimetres": 2, "float images: 16 bits": 1}
    code = ffmpeg_rgb48(path["hdr"]) / 65535.0
    decoded = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    # half a code of 65535, where the curve is steepest: 2.4 / 1.055
    np.testing.assert_allclose(decoded, np.clip(linear, 0, 1), rtol=0, atol=0.5 / 65535 * 2.28 + 1e-7)
    assert by_entity["depth"]["meter"] == 1000
    assert by_entity["depth"]["lossy"] == "float depth: whole millimetres"
    depth = pixels(path["depth"])
    assert depth.dtype == np.uint16
    np.testing.assert_array_equal(depth == 0, (METRES > 3) | (METRES < 0.0005))
    np.testing.assert_allclose(depth[METRES <= 3] / 1000, METRES[METRES <= 3], rtol=0, atol=0.00051)
    assert (pixels(path["far"])[METRES > 0.66] == 0).all(), "over 65.535 m is invalid"


def test_without_the_source_the_tiles_are_written(tmp_path):
    log = lt.new_recording("export test", "run-1", sink=str(tmp_path / "runs"), keep_source=False)
    log.log_image("deep", DEEP)
    log.log_image_file("jpeg", img_bytes=CAT)
    log.log_depth_image("depth", METRES)
    log.log_image("gray", data.camera().astype(np.float32) / 255)
    log.disconnect()
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images", floats="npy")
    assert exported.frames == 4
    assert sum(exported.lossy.values()) == 4
    files = {line["entity_path"]: tmp_path / "out" / line["file_name"] for line in lines(tmp_path / "out")}
    # a mip-less level in float16: within a code of 8 bits
    assert np.abs(pillow(files["deep"]).astype(int) - np.rint(DEEP / 257)).max() <= 1
    np.testing.assert_array_equal(pillow(files["jpeg"]), pillow(io.BytesIO(CAT)))
    np.testing.assert_array_equal(np.load(files["depth"]), METRES)
    np.testing.assert_array_equal(pillow(files["gray"]).shape, data.camera().shape)


def read_ply(path):
    """The vertices of a binary PLY file, by its own header."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    magic, form, element, *properties = header.decode().splitlines()
    assert (magic, form) == ("ply", "format binary_little_endian 1.0")
    types = {"float": "<f4", "double": "<f8", "uchar": "u1", "ushort": "<u2"}
    fields = [(name, types[kind]) for _, kind, name in (line.split() for line in properties)]
    vertices = np.frombuffer(body, fields)
    assert element == f"element vertex {len(vertices)}"
    return vertices


def test_points_are_ply_files(tmp_path, log):
    rng = np.random.default_rng(0)
    cloud = rng.normal(0, 5, (1000, 3))
    colors = rng.integers(0, 256, (1000, 4), np.uint8)
    log.set_time_sequence("frame", 0)
    log.log_points("cloud", cloud, colors=colors, radii=0.5, class_ids=np.arange(1000), keypoint_ids=7)
    log.log_points("flat", cloud[:10, :2].astype(np.float32), labels=[str(i) for i in range(10)])
    log.log_points("empty")
    log.flush()
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    assert exported.lossy == {"PLY has no place for labels and identifiers": 1}
    vertices = read_ply(tmp_path / "out" / "cloud" / "frame_000000.ply")
    for i, axis in enumerate("xyz"):
        np.testing.assert_array_equal(vertices[axis], cloud[:, i])
    for i, channel in enumerate(("red", "green", "blue", "alpha")):
        np.testing.assert_array_equal(vertices[channel], colors[:, i])
    np.testing.assert_array_equal(vertices["class_id"], np.arange(1000))
    assert (vertices["keypoint_id"] == 7).all()
    assert (vertices["radius"] == 0.5).all()
    flat = read_ply(tmp_path / "out" / "flat" / "frame_000000.ply")
    assert (flat["z"] == 0).all()
    assert flat.dtype["x"] == np.float32
    np.testing.assert_array_equal(flat["y"], cloud[:10, 1].astype(np.float32))
    assert len(read_ply(tmp_path / "out" / "empty" / "frame_000000.ply")) == 0


def test_names_sort_as_the_times_do_and_are_given_once(tmp_path, log):
    gray = data.camera()[:20, :30]
    for step in (1_000_001, 2, 999_999):  # logged out of order
        log.set_time_sequence("epoch", step // 1_000_000)
        log.set_time_sequence("step", step)
        log.log_image("steps", gray)
    log.log_image("steps", gray)
    log.reset_time()
    for second in (9, 10):
        log.set_time_seconds("sim time", second)
        log.log_image("timed", gray)
    log.reset_time()
    log.log_image("both", gray)
    log.log_depth_image("both", gray)
    log.log_annotation_context("both", [(1, "x")])
    log.flush()
    export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    names = {
        entity: sorted((path.name for path in (tmp_path / "out" / entity).iterdir()), key=natural)
        for entity in ("steps", "timed", "both")
    }
    assert names["steps"] == [
        "step_0000002.png",
        "step_0999999.png",
        "step_0999999_2.png",
        "step_1000001.png",
    ]
    assert names["steps"] == sorted(names["steps"], key=lambda name: name.removesuffix(".png"))
    assert names["timed"] == [f"sim time_1970-01-01T00-00-{second:02d}.000000000.png" for second in (9, 10)]
    assert [name.rpartition("_")[2] for name in names["both"]] == ["image.png", "depth.png"]
    assert all(name.startswith("log_time_2") for name in names["both"])


def test_directories_have_names_that_other_systems_take(tmp_path, log):
    gray = data.camera()[:20, :30]
    paths = [
        "camera/[bold] 100%?",
        "a",
        "a/frame_000000.png",
        ".hidden",
        "é" * 400,
        "é" * 399 + "e",
        "a/metadata.JSONL",
    ]
    log.set_time_sequence("frame", 0)
    for path in paths:
        log.log_image(path, gray)
    log.flush()
    assert directory_name("camera/[bold] 100%?") == "camera/%5Bbold%5D 100%25%3F"
    assert directory_name(".hidden/a.png/b.png.c/end.") == "%2Ehidden/a%2Epng/b.png.c/end%2E"
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    assert (exported.frames, exported.left_out) == (len(paths), {})
    assert sorted(line["entity_path"] for line in lines(tmp_path / "out")) == sorted(paths)
    assert len({line["file_name"] for line in lines(tmp_path / "out")}) == len(paths)
    assert ingest(tmp_path / "out", tmp_path / "again").logged == len(paths)


def log_hugging_face(log):
    labels = [{"label": 3, "caption": "a cat", "box": [1, 2.5]}, {"label": 4, "caption": None}, None]
    log.log_annotation_context("ids", [(1, "coin", (200, 100, 0))])
    for frame, ext in enumerate(labels):
        log.set_time_sequence("frame", frame)
        image_file(log, "photos", CAT, ext=ext)
    log.set_time_nanos("time", 1_700_000_000_123_456_789)
    log.log_depth_image("depth", MILLIMETRES, meter=5000)
    log.log_segmentation_image("ids", IDS)
    log.log_points("cloud", np.zeros((3, 3)))
    log.flush()


def test_parquet_is_as_datasets_writes_it(tmp_path, log):
    log_hugging_face(log)
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="parquet")
    assert (exported.frames, exported.errors) == (5, 0)
    assert exported.left_out == {"there is no place for values of kind 'points'": 1}
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "train-00000-of-00001.parquet"
    assert exported.bytes_out == path.stat().st_size
    table = pq.read_table(path)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert features["image"] == {"_type": "Image"}
    assert table.schema.field("image").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    assert features["times"]["time"] == {"dtype": "timestamp[ns]", "_type": "Value"}
    assert features["meter"] == {"dtype": "float64", "_type": "Value"}
    assert features["label"] == {"dtype": "int64", "_type": "Value"}
    depth, ids, *photos = table.to_pylist()
    assert [row["image"]["bytes"] for row in photos] == [CAT] * 3
    assert [row["image"]["path"] for row in photos] == [f"photos/frame_{i:06d}.jpg" for i in range(3)]
    assert [row["label"] for row in photos] == [3, 4, None]
    assert [row["caption"] for row in photos] == ["a cat", None, None]
    assert [row["box"] for row in photos] == ["[1, 2.5]", None, None]
    assert [row["times"]["frame"] for row in photos] == [0, 1, 2]
    assert photos[0]["times"]["time"] is None
    assert depth["times"]["time"].value == 1_700_000_000_123_456_789
    assert (depth["entity_path"], depth["kind"], depth["meter"]) == ("depth", "depth", 5000)
    np.testing.assert_array_equal(pillow(io.BytesIO(depth["image"]["bytes"])), MILLIMETRES)
    np.testing.assert_array_equal(pillow(io.BytesIO(ids["image"]["bytes"])), IDS)
    assert json.loads(ids["classes"]) == [{"id": 1, "label": "coin", "color": [200, 100, 0, 255]}]


def test_parquet_ingested_again_gives_equal_pixels_and_labels(tmp_path, log):
    logged = log_pictures(log)
    log_hugging_face(log)
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="parquet")
    summary = ingest(tmp_path / "out", tmp_path / "again")
    assert (summary.format, summary.logged, summary.errors) == ("parquet", exported.frames, {})
    by_entity = {}
    for frame in sorted(lt.open_store(tmp_path / "again").recording().frames("image"), key=lambda f: f.times["row"]):
        by_entity.setdefault(frame.ext["entity_path"], []).append(frame)
    for entity, values in logged.items():
        assert all(equal(frame.source(), value) for frame, value in zip(by_entity[entity], values, strict=True))
    assert by_entity["photos"][0].ext["caption"] == "a cat"
    assert by_entity["depth"][0].ext["meter"] == 5000


def test_shards_and_row_groups_are_bounded(tmp_path, log, monkeypatch):
    log_pictures(log)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 700_000)
    monkeypatch.setattr(parquet, "SHARD_BYTES", 1_500_000)
    export(tmp_path / "runs", "run-1", tmp_path / "out", format="parquet")
    paths = sorted((tmp_path / "out").iterdir())
    assert len(paths) > 1
    assert [path.name for path in paths] == [f"train-{i:05d}-of-{len(paths):05d}.parquet" for i in range(len(paths))]
    assert all(path.stat().st_size < 1_600_000 for path in paths)
    rows = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            rows += file.metadata.num_rows
            for i in range(file.metadata.num_row_groups):
                group = file.read_row_group(i, ["image"])["image"].to_pylist()
                assert len(group) == 1 or sum(len(row["bytes"]) for row in group) <= 700_000
    assert rows == 30
    monkeypatch.undo()
    monkeypatch.setattr(parquet, "GROUP_ROWS", 4)
    export(tmp_path / "runs", "run-1", tmp_path / "few", format="parquet", entities=["camera/gray", "camera/ids"])
    (path,) = (tmp_path / "few").iterdir()
    groups = pq.read_metadata(path)
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [4, 2]


def test_extension_components_become_columns_of_their_types():
    columns = ExtensionColumns(
        [
            {"label": 1, "score": 1, "kind": "x", "mixed": 1, "huge": 2**64, "half": "\ud800"},
            {"label": None, "score": 0.5, "ext_kind": True, "mixed": "a", "deep": {"a": [1]}},
            None,
        ],
        reserved=["kind"],
    )
    assert columns.types == {
        "deep": pa.string(),
        "ext_kind": pa.bool_(),
        "half": pa.string(),
        "huge": pa.string(),
        "ext_ext_kind": pa.string(),
        "label": pa.int64(),
        "mixed": pa.string(),
        "score": pa.float64(),
    }
    assert columns.row({"kind": "x", "mixed": 1, "huge": 2**64, "half": "\ud800"}) == {
        "ext_ext_kind": "x",
        "mixed": "1",
        "huge": str(2**64),
        "half": "?",
    }
    assert columns.row({"deep": {"a": [1]}, "label": None}) == {"deep": '{"a": [1]}', "label": None}
    assert columns.row(None) == {}
    many = ExtensionColumns([{str(i): i} for i in range(65)], reserved=[])
    assert many.types == {"ext": pa.string()}
    assert many.row({"7": 7}) == {"ext": '{"7": 7}'}


def flip_a_byte_of(store, array):
    """Damage the tiles file where it has this frame."""
    recording = lt.open_store(store).recording()
    for entity in recording.entities():
        for frame in recording.frames(entity):
            if frame.kind == "image" and frame.error is None and equal(frame.source(), array):
                tile = frame.tile().tobytes()[:2000]
    for path in (store / "run-1" / "tiles").iterdir():
        content = path.read_bytes()
        if tile in content:
            at = content.index(tile) + 1000
            path.unlink()
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("format_", ["images", "parquet"])
@pytest.mark.filterwarnings("ignore::lumatile.LumatileWarning")
def test_equal_errors_are_one_reason_whatever_their_entity_paths(tmp_path, log, format_):
    for path in ("site: A/cam", "/cam/", "cam"):
        log.log_image(path, np.zeros((4, 4, 7), np.uint8))
    log.flush()
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format=format_)
    ((reason, count),) = exported.left_out.items()
    assert reason.startswith("an error was logged: image must be HxW")
    assert count == exported.errors == 3


@pytest.mark.parametrize("format_", ["images", "parquet"])
def test_error_rows_and_damaged_frames_are_left_out_and_counted(tmp_path, log, format_):
    for frame in range(3):
        log.set_time_sequence("frame", frame)
        log.log_image("rgb", np.roll(ASTRONAUT, frame * 50, 1))
    with pytest.warns(lt.LumatileWarning):
        log.log_image("rgb", np.zeros((4, 4, 7), np.uint8))
    log.log_image_file("jpeg", img_bytes=CAT[: len(CAT) // 2])
    log.log_image("nothing", np.zeros((0, 5), np.uint8))
    log.log_cleared("rgb")
    log.log_extension_components("rgb", {"a": 1})
    log.flush()
    flip_a_byte_of(tmp_path / "runs", np.roll(ASTRONAUT, 50, 1))
    arguments = ["export", str(tmp_path / "runs"), "run-1", str(tmp_path / "out"), "--format", format_]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["frames"], report["errors"], report["format"]) == (2, 3, format_)
    assert sum(report["left_out"].values()) == 6
    reasons = "\n".join(report["left_out"])
    assert "CorruptStoreError" in reasons
    assert "has other bytes than were written" in reasons
    assert "an error was logged: image must be HxW" in reasons
    assert "truncated JPEG" in reasons
    assert "empty image" in reasons
    assert "'clear'" in reasons
    assert "'ext'" in reasons
    if format_ == "images":
        assert sorted(path.name for path in (tmp_path / "out/rgb").iterdir()) == [
            "frame_000000.png",
            "frame_000002.png",
        ]
        np.testing.assert_array_equal(pixels(tmp_path / "out/rgb/frame_000002.png"), np.roll(ASTRONAUT, 100, 1))


def test_a_damaged_segment_is_said(tmp_path, log):
    log.log_image("rgb", ASTRONAUT)
    log.flush()
    (before,) = (tmp_path / "runs" / "run-1" / "frames").iterdir()
    log.log_image("rgb", RGBA)
    log.flush()
    log.disconnect()
    later = [path for path in (tmp_path / "runs" / "run-1" / "frames").iterdir() if path != before]
    for path in later:
        content = path.read_bytes()
        path.write_bytes(content[:100] + b"?" + content[101:])
    with pytest.warns(lt.LumatileWarning, match="a damaged segment is left out"):
        exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    assert (exported.frames, exported.errors) == (1, len(later))
    assert all(reason.startswith("a segment is damaged: ") for reason in exported.left_out)


def test_the_command(tmp_path, log):
    log_pictures(log)
    log.log_depth_image("camera/metres", METRES)
    log.flush()
    run = CliRunner().invoke
    store, out = str(tmp_path / "runs"), tmp_path / "out"
    done = run(app, ["export", store, "run-1", str(out), "--format", "images", "--entity", "camera/rgb"])
    assert done.exit_code == 0, done.output
    assert f"{out}: 3 frames, " in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["camera", "metadata.jsonl"]
    again = run(app, ["export", store, "run-1", str(out), "--format", "images"])
    assert isinstance(again.exception, InvalidValueError)
    assert "remove it, or name another" in str(again.exception)
    done = run(app, ["export", store, "run-1", str(tmp_path / "all"), "--format", "images", "--entity", "camera"])
    assert done.exit_code == 0, "what is not exact is said, and no error"
    assert ": 31 frames, " in done.stdout
    assert "1  float depth: whole millimetres" in done.stdout


def test_the_examples_of_the_guide(tmp_path, log, monkeypatch, capsys):
    log_pictures(log)
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[3] / "docs" / "batch.md").read_text().partition("## Export")[2]
    (code,) = re.findall(r"```py\n(from lumatile_service.export .*?)```", guide, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(lumatile export .*?)```", guide, re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == "3 {} {}\n"
    for command in commands.splitlines():
        arguments = command.partition("#")[0].split()[1:]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert f"{arguments[3]}: 30 frames, " in done.stdout
    assert Path("run-1.rrd").read_bytes()[:3] == b"RRF"


def test_a_destination_that_is_there_is_left_alone(tmp_path, log):
    log.log_image("rgb", ASTRONAUT)
    log.flush()
    store = tmp_path / "runs"
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("file", "full"):
        with pytest.raises(InvalidValueError, match=r"the destination must not exist yet, and .* does"):
            export(store, "run-1", tmp_path / name, format="images")
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    assert export(store, None, tmp_path / "empty", format="images").frames == 1
    assert export(store, None, tmp_path / "new/er", format="parquet").frames == 1
    with pytest.raises(InvalidValueError, match=r"the format must be one of rrd, images, parquet, not 'foo'"):
        export(store, "run-1", tmp_path / "x", format="foo")
    with pytest.raises(InvalidValueError, match=r"not None, which needs a destination that ends with \.rrd"):
        export(store, "run-1", tmp_path / "x.parquet")
    with pytest.raises(InvalidValueError, match="floats must be one of png, npy, not 'exr'"):
        export(store, "run-1", tmp_path / "x", format="images", floats="exr")
    with pytest.raises(NotFoundError, match="has no entity 'rg'; it has"):
        export(store, "run-1", tmp_path / "x", format="images", entities=["rg"])
    with pytest.raises(NotFoundError, match="has no recording 'walk'"):
        export(store, "walk", tmp_path / "x", format="images")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("format_", ["images", "parquet"])
def test_an_export_that_is_interrupted_leaves_nothing(tmp_path, log, format_):
    log_pictures(log)

    def interrupt(done, total):
        assert total == 30
        if done == 10:
            raise KeyboardInterrupt

    (tmp_path / "to").mkdir()
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "runs", "run-1", tmp_path / "to" / "out", format=format_, progress=interrupt)
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("format_", ["images", "parquet", "rrd"])
def test_a_full_disk_is_an_error_and_nothing_is_left_on_it(tmp_path, log, format_):
    log_pictures(log)
    with tmpfs(tmp_path / "disk", "1m") as disk:
        with pytest.raises(OSError, match=r"No space left|os error 28"):
            export(tmp_path / "runs", "run-1", disk / "out", format=format_)
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("format_", ["images", "parquet"])
def test_memory_does_not_grow_with_the_recording(tmp_path, log, monkeypatch, format_):
    monkeypatch.setattr(parquet, "GROUP_BYTES", 4 << 20)
    rng = np.random.default_rng(0)
    for frame in range(60):
        log.set_time_sequence("frame", frame)
        log.log_image("noise", rng.integers(0, 256, (512, 512, 3), np.uint8))  # 786 kB of PNG, 47 MB of all
    log.flush()
    tracemalloc.start()
    try:
        export(tmp_path / "runs", "run-1", tmp_path / "out", format=format_)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30e6, "at most nine frames with their decoded tiles (2 MB), and a row group"
