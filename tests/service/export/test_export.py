"""`lumatile export`: recordings as image folders, read by other tools, and ingested again."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from skimage import data
from tests.support.export_samples import (
    ASTRONAUT,
    DEEP,
    METRES,
    equal,
    ffmpeg_rgb48,
    lines,
    log_pictures,
    pillow,
    pixels,
)
from tests.support.shards import CAT, IDS, MILLIMETRES
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import InvalidValueError
from lumatile_service.batch import ingest
from lumatile_service.batch.source_files import natural
from lumatile_service.cli.app import app
from lumatile_service.export import export
from lumatile_service.export.file_names import directory_name


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
