"""Image files, from a log call to the value a sink gets."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import lumatile as lt
from lumatile.errors import ImageFileError, ImageFileNotFoundError


def file_of(picture, file_format, **options):
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture
def jpeg(pixels):
    return file_of(Image.fromarray(pixels), "JPEG")


@pytest.fixture
def png(pixels):
    return file_of(Image.fromarray(pixels), "PNG")


def png_that_claims(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = file_of(Image.new("RGB", (1, 1)), "PNG")
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@pytest.mark.parametrize("given", ["bytes", "bytearray", "memoryview", "path", "path as text"])
def test_a_jpeg_stays_compressed(strict, values, jpeg, given, tmp_path):
    path = tmp_path / "picture.png"  # the name says nothing
    path.write_bytes(jpeg)
    if "path" in given:
        strict.log_image_file("file", img_path=path if given == "path" else str(path))
    else:
        strict.log_image_file("file", img_bytes={"bytes": bytes, "bytearray": bytearray}.get(given, memoryview)(jpeg))
    assert values[0].encoded == jpeg
    assert values[0].array is None
    assert (values[0].kind, values[0].source_dtype) == ("image", "jpeg")
    assert values[0].nbytes >= len(jpeg)


def test_any_contiguous_buffer_of_bytes_is_a_file(strict, values, jpeg):
    array = np.frombuffer(jpeg, np.uint8)
    for buffer in (array, array[:, np.newaxis], array.view(np.int8), BytesIO(jpeg).getbuffer(), memoryview(jpeg)):
        strict.log_image_file("file", img_bytes=buffer)
    assert [value.encoded for value in values] == [jpeg] * 5


@pytest.mark.parametrize(
    ("buffer", "why"),
    [
        (BytesIO(b"x"), "write its getvalue"),
        (np.zeros(4, np.float32), "format 'f'"),
        (np.zeros(8, np.uint8)[::2], "not contiguous"),
        ("text", "not 'text'"),
        ([1, 2], r"not \[1, 2\]"),
    ],
)
def test_what_is_no_buffer_of_bytes_is_refused_with_the_rule(strict, buffer, why):
    with pytest.raises(TypeError, match=f"img_bytes must be the bytes of a file .*{why}"):
        strict.log_image_file("file", img_bytes=buffer)


def test_a_png_is_decoded_at_the_call(strict, values, png, pixels):
    strict.log_image_file("file", img_bytes=png, draw_order=2, timeless=True)
    np.testing.assert_array_equal(values[0].array, pixels)
    assert not values[0].array.flags.writeable
    assert (values[0].encoded, values[0].source_dtype, values[0].source_shape) == (None, "uint8", (40, 50, 3))
    assert (values[0].draw_order, values[0].time.timeless) == (2.0, True)


def test_a_png_of_16_bits_keeps_them(strict, values):
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 30), np.uint16)
    strict.log_image_file("file", img_bytes=file_of(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(values[0].array[..., 0], pixels)
    assert values[0].source_dtype == "uint16"


@pytest.mark.parametrize("stated", [lt.ImageFormat.JPEG, "jpeg", "JPEG", "jpg"])
def test_the_format_may_be_stated(strict, values, jpeg, png, stated):
    strict.log_image_file("file", img_bytes=jpeg, img_format=stated)
    assert len(values) == 1
    with pytest.raises(ValueError, match="img_format is JPEG, but the file is PNG"):
        strict.log_image_file("file", img_bytes=png, img_format=stated)


@pytest.mark.parametrize("stated", ["webp", 5, object(), lt.ImageFormat])
def test_a_format_that_there_is_not_is_refused(strict, jpeg, stated):
    with pytest.raises(ValueError, match=r"img_format must be ImageFormat\.JPEG or \.PNG, not "):
        strict.log_image_file("file", img_bytes=jpeg, img_format=stated)


def test_bytes_or_a_path_exactly_one(strict, jpeg):
    with pytest.raises(ValueError, match="give img_bytes or img_path, not neither"):
        strict.log_image_file("file")
    with pytest.raises(ValueError, match="give img_bytes or img_path, not both"):
        strict.log_image_file("file", img_bytes=jpeg, img_path="x.jpg")


@pytest.mark.parametrize("path", ["no such file.jpg", ".", "/dev/zero", "a\0b"])
def test_a_path_that_cannot_be_read_is_said(strict, path):
    with pytest.raises(ImageFileNotFoundError, match="img_path cannot be read: "):
        strict.log_image_file("file", img_path=path)
    assert issubclass(ImageFileNotFoundError, FileNotFoundError)


def test_arguments_of_another_type_are_refused(strict):
    with pytest.raises(TypeError, match=r"img_bytes must be the bytes of a file .*, not 5"):
        strict.log_image_file("file", img_bytes=5)
    with pytest.raises(TypeError, match="img_path must be a path, not 5"):
        strict.log_image_file("file", img_path=5)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(50), b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("recording", ["strict", "lenient"])
def test_what_is_no_image_is_said_at_the_call(request, values, recording, data):
    recording = request.getfixturevalue(recording)
    if recording.settings.strict:
        with pytest.raises(ImageFileError):
            recording.log_image_file("file", img_bytes=data)
        assert not values
    else:
        with pytest.warns(lt.LumatileWarning, match="^image at 'file': "):
            recording.log_image_file("file", img_bytes=data)
        assert values[0].error
        assert values[0].encoded is None


def test_a_file_over_the_pixel_limit_is_not_decoded(strict, name, jpeg):
    with pytest.raises(ValueError, match=r"89478485 pixels.*10000000000"):
        strict.log_image_file("file", img_bytes=png_that_claims(100_000, 100_000))
    small = lt.new_recording("tests", sink=f"memory://{name}", strict=True, pixel_limit=1999)
    with pytest.raises(ValueError, match=r"1999 pixels.*2000"):
        small.log_image_file("file", img_bytes=jpeg)
    small.disconnect()


def test_strict_mode_decodes_a_jpeg_at_the_call_and_lenient_mode_leaves_it_to_the_pipeline(
    strict, lenient, values, jpeg
):
    truncated = jpeg[: len(jpeg) // 2]
    with pytest.raises(ImageFileError, match=r"truncated|corrupt"):
        strict.log_image_file("file", img_bytes=truncated)
    lenient.log_image_file("file", img_bytes=truncated)
    assert [value.encoded for value in values] == [truncated]


def test_a_corrupt_png_is_said(lenient, values, png):
    with pytest.warns(lt.LumatileWarning, match="corrupt PNG"):
        lenient.log_image_file("file", img_bytes=png[:60] + b"x" + png[61:])
    assert "corrupt PNG" in values[0].error
