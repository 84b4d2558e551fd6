"""Files that a format does not read are counted and named, and a job that finds nothing says what it looked for."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from tests.support.shards import encoded
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import InvalidValueError
from lumatile_service.batch import ingest
from lumatile_service.batch.plan import plan
from lumatile_service.cli.app import app

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(PIXELS, "png"))


@pytest.mark.parametrize(
    ("suffix", "kind", "dtype"),
    [
        ("jfif", "JPEG", np.uint8),
        ("jpe", "JPEG", np.uint8),
        ("apng", "PNG", np.uint8),
        ("avif", "AVIF", np.uint8),
        ("dib", "DIB", np.uint8),
        ("pnm", "PPM", np.uint8),
        ("pfm", "PPM", np.float32),
    ],
)
def test_image_files_are_read_whatever_usual_suffix_they_have(tmp_path, suffix, kind, dtype):
    (tmp_path / "d").mkdir()
    pixels = PIXELS if dtype == np.uint8 else PIXELS[..., 0].astype(np.float32) / 7
    Image.fromarray(pixels).save(tmp_path / f"d/a.{suffix.upper()}", kind)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.logged, summary.errors, summary.left_out) == (1, {}, {})
    source = lt.open_store(tmp_path / "store").recording().latest_at("d").source()
    if isinstance(source, np.ndarray):
        assert source.dtype == dtype
        np.testing.assert_allclose(source, pixels, atol=40 if kind == "AVIF" else 0)


def test_what_a_format_does_not_read_is_counted_and_named(tmp_path):
    put(tmp_path / "d", "a.png", "b.heic", "c.JXL", "d.jxl", "e.hdr", "f.npy", "notes.txt", "x.mp4", "y.tar.gz")
    summary = ingest(tmp_path / "d", tmp_path / "store", format="images")
    expected = {".jxl": 2, ".heic": 1, ".hdr": 1, ".npy": 1}
    expected |= {".mp4 (--format video)": 1, ".tar.gz (--format webdataset)": 1}
    assert summary.left_out == plan(tmp_path / "d", format="images").left_out == expected
    said = CliRunner().invoke(
        app, ["ingest", str(tmp_path / "d"), "--store", str(tmp_path / "s"), "--format", "images"]
    )
    assert "left out, since the format images does not read it: 2 .jxl, 1 .heic" in said.stdout


def test_a_picture_next_to_parquet_files_says_which_format_reads_those(tmp_path):
    put(tmp_path / "d", "preview.png")
    (tmp_path / "d/data").mkdir()
    pyarrow.parquet.write_table(pa.table({"image": [encoded(PIXELS, "png")] * 5}), tmp_path / "d/data/train.parquet")
    done = CliRunner().invoke(app, ["ingest", str(tmp_path / "d"), "--store", str(tmp_path / "store"), "--json"])
    summary = json.loads(done.stdout)
    assert (summary["format"], summary["left_out"]) == ("images", {".parquet (--format parquet)": 1})
    other = ingest(tmp_path / "d", tmp_path / "other", format="parquet")
    assert (other.logged, other.left_out) == (5, {})


@pytest.mark.parametrize(
    ("name", "looked_for"),
    [
        ("kitti", "the format kitti reads images in image_0"),
        ("cityscapes", "the format cityscapes reads CITY_"),
        ("scannet", "the format scannet reads numbered files in color/"),
        ("tum-rgbd", "the format tum-rgbd reads rgb.txt and depth.txt"),
        ("webdataset", "the format webdataset reads images and arrays in .tar"),
        ("video", "the format video reads frames of .mp4"),
        ("rerun", "the format rerun reads .* in .rrd files"),
    ],
)
def test_a_format_that_finds_nothing_says_what_it_looked_for(tmp_path, name, looked_for):
    put(tmp_path / "d", "a.png", "b.png")
    for options in ([], ["--dry-run"]):
        command = ["ingest", str(tmp_path / "d"), "--store", str(tmp_path / "store"), "--format", name, *options]
        error = CliRunner().invoke(app, command).exception
        assert isinstance(error, InvalidValueError), "which the command line ends with exit code 2"
        assert re.search(f"nothing to log in .*: {looked_for}.*; there are 2 .png", str(error))
    assert not (tmp_path / "store").exists()


def test_a_reader_that_finds_nothing_says_so(tmp_path):
    put(tmp_path / "d", "a.png")
    error = (
        CliRunner()
        .invoke(
            app, ["ingest", str(tmp_path / "d"), "--store", str(tmp_path / "store"), "--reader", f"{__name__}:nothing"]
        )
        .exception
    )
    assert isinstance(error, InvalidValueError)
    assert f"the reader {__name__}:nothing lists no value" in str(error)


def nothing(files):
    return iter(())


def test_a_directory_of_tum_sequences_is_read_as_such(tmp_path):
    root = tmp_path / "TUM"
    for sequence in ("freiburg1_desk", "freiburg 2"):
        put(root, f"{sequence}/rgb/1.0.png")
        (root / sequence / "depth").mkdir()
        Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(root / f"{sequence}/depth/1.01.png")
        (root / sequence / "rgb.txt").write_text("# color images\n1.0 rgb/1.0.png\n")
        (root / sequence / "depth.txt").write_text("1.01 depth/1.01.png\n")
    put(root, "poster.png")
    with pytest.warns(lt.LumatileWarning, match="1 image files are in no sequence and are left out: poster.png"):
        summary = ingest(root, tmp_path / "store")
    assert (summary.format, summary.logged, summary.errors) == ("tum-rgbd", 4, {})
    recording = lt.open_store(tmp_path / "store").recording()
    assert recording.latest_at("freiburg1_desk/depth", frame=0).depth()[0, 0] == 1
    assert recording.latest_at("freiburg 2/rgb", frame=0).times["time"] == np.datetime64(10**9, "ns")


@pytest.mark.parametrize(
    "lines",
    [
        "1.0,rgb/a b.png\n2.0,rgb/c.png\n",
        "1.0, rgb/a b.png\n2.0\trgb/c.png\n",
        "\ufeff1.0 ./rgb/a b.png\r\n2.0 rgb\\c.png\r\n",
        "1.0 rgb/a b.png\n2.0 rgb/c.png 2.0 depth/a.png\n",
    ],
)
def test_tum_lists_are_read_as_tools_write_them(tmp_path, lines):
    put(tmp_path / "d", "rgb/a b.png", "rgb/c.png")
    (tmp_path / "d/depth").mkdir()
    Image.fromarray(np.full((4, 4), 5000, np.uint16)).save(tmp_path / "d/depth/a.png")
    (tmp_path / "d/rgb.txt").write_bytes(lines.encode())
    (tmp_path / "d/depth.txt").write_bytes(lines.split("1.0")[0].encode() + b"1.0 ./depth/a.png\n")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.logged, summary.errors) == (3, {})
