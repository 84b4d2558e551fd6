"""Each bad call: one clear message, an error row or an exception, and everything else intact in the store."""

import io
import re
import struct
import warnings
import zlib
from dataclasses import replace

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import lumatile as lt
from lumatile.format.schema import FORMAT_VERSION
from lumatile.storage.local_directory import LocalDirectory


def file_of(kind, size=(60, 40), **options):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


JPEG, PNG = file_of("JPEG"), file_of("PNG")


def huge_png():
    header = struct.pack(">IIBBBBB", 65500, 65500, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    end = b"IEND"
    return PNG[:8] + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, b"IDAT", end)
    )


def huge_jpeg():
    at = JPEG.index(b"\xff\xc0")
    return JPEG[: at + 5] + struct.pack(">HH", 65500, 65500) + JPEG[at + 9 :]


def corrupt(data):
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 0x5A for b in data[middle : middle + 200]) + data[middle + 200 :]


RGB = np.zeros((4, 5, 3), np.uint8)

CALLS = {
    "an image of five channels": (lambda r: r.log_image("x", np.zeros((4, 4, 5), np.uint8)), r"\(4, 4, 5\)"),
    "an image with channels first": (lambda r: r.log_image("x", np.zeros((3, 40, 50), np.uint8)), "transpose|permute"),
    "a batch of images": (lambda r: r.log_image("x", np.zeros((2, 4, 4, 3), np.uint8)), r"\(2, 4, 4, 3\)"),
    "an image of complex numbers": (lambda r: r.log_image("x", np.zeros((4, 4), complex)), "complex128"),
    "an image of int32": (
        lambda r: r.log_image("x", np.zeros((4, 4), np.int32)),
        r"int32; values of 0-255: astype\(np.uint8\)",
    ),
    "an image that is None": (lambda r: r.log_image("x", None), "None"),
    "an image that is text": (lambda r: r.log_image("x", "picture.png"), "picture.png"),
    "a depth image of three channels": (lambda r: r.log_depth_image("x", RGB), r"\(4, 5, 3\)"),
    "a depth image of int16": (lambda r: r.log_depth_image("x", np.zeros((4, 4), np.int16)), r"int16; .*uint16"),
    "meter 0": (lambda r: r.log_depth_image("x", RGB[..., 0], meter=0), "meter.* 0"),
    "meter below 0": (lambda r: r.log_depth_image("x", RGB[..., 0], meter=-2.5), "meter.*-2.5"),
    "meter NaN": (lambda r: r.log_depth_image("x", RGB[..., 0], meter=float("nan")), "meter.*nan"),
    "a meter that is 0 as float32": (lambda r: r.log_depth_image("x", RGB[..., 0], meter=1e-60), "meter.*1e-60"),
    "a class id over 65535": (lambda r: r.log_segmentation_image("x", np.full((4, 4), 70000)), "70000"),
    "a class id below 0": (lambda r: r.log_segmentation_image("x", np.full((4, 4), -1)), "-1"),
    "class ids of three channels": (lambda r: r.log_segmentation_image("x", RGB), r"\(4, 5, 3\)"),
    "class ids of floats": (lambda r: r.log_segmentation_image("x", np.full((4, 4), 0.5)), "0.5.*float64"),
    "a point's class id that does not fit": (lambda r: r.log_point("x", [0, 0], class_id=65536), "65536"),
    "positions of four columns": (lambda r: r.log_points("x", np.zeros((7, 4))), r"\(7, 4\)"),
    "colors that are neither one nor N": (
        lambda r: r.log_points("x", np.zeros((7, 3)), colors=np.zeros((3, 3), np.uint8)),
        "3.*7|7.*3",
    ),
    "labels that are neither one nor N": (
        lambda r: r.log_points("x", np.zeros((7, 3)), labels=["a", "b"]),
        "2.*7|7.*2",
    ),
    "radii that are neither one nor N": (lambda r: r.log_points("x", np.zeros((7, 3)), radii=[1, 2]), "2.*7|7.*2"),
    "both img_bytes and img_path": (
        lambda r: r.log_image_file("x", img_bytes=JPEG, img_path="x.jpg"),
        "exactly one|both",
    ),
    "neither img_bytes nor img_path": (lambda r: r.log_image_file("x"), "exactly one|either"),
    "a file that is missing": (lambda r: r.log_image_file("x", img_path="/nowhere/missing.jpg"), "missing.jpg"),
    "a directory as a file": (lambda r: r.log_image_file("x", img_path="/"), "/"),
    "a file that is no image": (lambda r: r.log_image_file("x", img_bytes=b"GIF89a" + bytes(90)), "GIF89a"),
    "an empty file": (lambda r: r.log_image_file("x", img_bytes=b""), "0 bytes|empty"),
    "a format that disagrees": (
        lambda r: r.log_image_file("x", img_bytes=PNG, img_format=lt.ImageFormat.JPEG),
        "(?i)png",
    ),
    "a truncated JPEG": (lambda r: r.log_image_file("x", img_bytes=JPEG[: len(JPEG) // 2]), "(?i)truncated|jpeg"),
    "a corrupt JPEG": (lambda r: r.log_image_file("x", img_bytes=corrupt(JPEG)), "(?i)corrupt|jpeg"),
    "a truncated PNG": (lambda r: r.log_image_file("x", img_bytes=PNG[: len(PNG) // 2]), "(?i)truncated|png"),
    "a corrupt PNG": (lambda r: r.log_image_file("x", img_bytes=corrupt(PNG)), "(?i)corrupt|crc"),
    "a JPEG over the pixel limit": (lambda r: r.log_image_file("x", img_bytes=huge_jpeg()), "89478485"),
    "a PNG over the pixel limit": (lambda r: r.log_image_file("x", img_bytes=huge_png()), "89478485"),
    "an empty entity path": (lambda r: r.log_image("", RGB), "(?i)path"),
    "a path that climbs": (lambda r: r.log_image("a/../../etc", RGB), r"\.\."),
    "a path with NUL": (lambda r: r.log_image("a\0b", RGB), "(?i)control|nul"),
    "a path of 10 KB": (lambda r: r.log_image("a" * 10_000, RGB), "(?i)bytes"),
    "a path of unicode dots": (lambda r: r.log_image("a/\u2024\u2024/b", RGB), "(?i)path"),
    "a path that is no text": (lambda r: r.log_image(7, RGB), "7"),
    "ext that is no JSON": (lambda r: r.log_image("x", RGB, ext={"a": object()}), "object"),
}


@pytest.mark.parametrize("name", CALLS)
def test_lenient_warns_leaves_an_error_row_and_all_else_intact(tmp_path, name):
    call, message = CALLS[name]
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    rec.log_image("good", RGB + 1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        call(rec)
    rec.log_image("good", RGB + 2)
    rec.flush()
    rec.disconnect()
    read = lt.open_store(tmp_path).recording("run")
    np.testing.assert_array_equal([f.source()[0, 0, 0] for f in read.frames("good")], [1, 2])
    rows = read.frames_table().select(["entity_path", "kind", "error", "seq"]).to_pylist()
    errors = [row for row in rows if row["error"] is not None]
    assert [row["seq"] for row in rows] == [0, 1, 2]
    assert len(errors) == 1
    assert re.search(message, errors[0]["error"]), errors[0]["error"]
    assert len(errors[0]["error"]) < 500
    assert "Traceback" not in errors[0]["error"]
    # what is found while it is decoded in the background is only in the row
    for warning in warned:
        assert issubclass(warning.category, lt.LumatileWarning)
        assert re.search(message, str(warning.message))
        assert warning.filename == __file__
    assert len(warned) == 1 or ("JPEG" in name and not warned)


@pytest.mark.parametrize("name", CALLS)
def test_strict_raises_and_all_else_is_intact(tmp_path, name):
    call, message = CALLS[name]
    rec = lt.new_recording("app", "run", sink=str(tmp_path), strict=True)
    rec.log_image("good", RGB + 1)
    with pytest.raises(lt.LumatileError, match=message):
        call(rec)
    rec.log_image("good", RGB + 2)
    rec.flush()
    rec.disconnect()
    read = lt.open_store(tmp_path).recording("run")
    assert [f.source()[0, 0, 0] for f in read.frames("good")] == [1, 2]
    assert read.frames_table()["error"].null_count == len(read.frames_table())


def test_one_bad_jpeg_among_many_costs_only_itself(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    for i in range(24):
        rec.log_image_file("camera", img_bytes=corrupt(JPEG) if i == 11 else JPEG)
    rec.flush()
    rec.disconnect()
    frames = list(lt.open_store(tmp_path).recording("run").frames("camera"))
    assert [f.error is not None for f in frames] == [i == 11 for i in range(24)]
    assert all(f.source() == JPEG for f in frames if f.error is None)
    assert frames[11].source() == corrupt(JPEG)


def test_a_store_of_a_newer_format_is_refused_by_its_number(tmp_path):
    rec = lt.new_recording("app", "run", sink=str(tmp_path))
    rec.log_image("good", RGB)
    rec.flush()
    rec.disconnect()
    directory = LocalDirectory(path=tmp_path / "run")
    (file,) = directory.committed()
    table = pa.ipc.open_file(directory.frames_path(file).read_bytes()).read_all()
    metadata = {**table.schema.metadata, b"lumatile.format_version": str(FORMAT_VERSION + 1).encode()}
    stream = pa.BufferOutputStream()
    with pa.ipc.new_file(stream, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))
    content = stream.getvalue()
    directory.frames_path(file).unlink()
    directory.frames_path(replace(file, crc32c=google_crc32c.value(content))).write_bytes(content)
    with pytest.raises(lt.LumatileError, match=f"{FORMAT_VERSION + 1}"):
        lt.open_store(tmp_path).recording("run")
