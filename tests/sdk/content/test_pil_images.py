"""PIL images are logged with all of their bits, upright, and with what is transparent in them."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

import lumatile as lt
from lumatile.content.image_content import depth_content, image_content, segmentation_content
from lumatile_kernels.decode.png import decode_png

DEEP = np.array([[0, 255, 256], [1000, 40_000, 65_535]], np.uint16)


def file_of(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", "<u2"), ("I;16L", "<u2"), ("I;16B", ">u2"), ("I;16N", "=u2")])
@pytest.mark.parametrize("content", [image_content, lambda im: depth_content(im, None), segmentation_content])
def test_16_bit_gray_of_either_byte_order_keeps_its_bits(mode, dtype, content):
    logged = content(Image.frombytes(mode, (3, 2), DEEP.astype(dtype).tobytes()))
    assert logged["array"].dtype == np.uint16
    np.testing.assert_array_equal(logged["array"].reshape(2, 3), DEEP)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_a_tiff_file_of_either_byte_order_keeps_its_bits(mode):
    dtype = ">u2" if mode == "I;16B" else "<u2"
    picture = Image.frombytes(mode, (3, 2), DEEP.astype(dtype).tobytes())
    np.testing.assert_array_equal(image_content(opened(file_of(picture, "TIFF")))["array"][..., 0], DEEP)


@pytest.mark.parametrize("kind", [".png", ".ppm", ".tiff"])
def test_a_file_of_which_pillow_reads_8_of_16_bits_is_warned_about(kind):
    encoded, data = cv2.imencode(kind, np.dstack([DEEP] * 3))
    assert encoded
    with pytest.warns(lt.LumatileWarning, match="8 of the 16 bits"):
        assert image_content(opened(data.tobytes()))["array"].dtype == np.uint8


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG", "BMP"])
def test_8_bit_files_are_not_warned_about(kind):
    picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    data = file_of(picture, kind)
    np.testing.assert_array_equal(image_content(opened(data))["array"], np.asarray(opened(data)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8)
    data = file_of(Image.fromarray(pixels), kind, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(opened(data)))
    np.testing.assert_array_equal(image_content(opened(data))["array"], shown)
    # what is made of the file's image lies on its side as that does
    np.testing.assert_array_equal(
        image_content(opened(data).convert("L"))["array"][..., 0],
        np.asarray(ImageOps.exif_transpose(opened(data).convert("L"))),
    )
    if kind == "PNG":
        np.testing.assert_array_equal(image_content(opened(data))["array"], decode_png(data))


def test_depths_and_ids_are_turned_as_their_picture_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(Image.fromarray(DEEP), "PNG", exif=exif)
    for content in (depth_content(opened(data), None), segmentation_content(opened(data))):
        np.testing.assert_array_equal(content["array"], DEEP[::-1].T)
        assert content["source_shape"] == (3, 2)


def test_an_image_turned_upright_by_pillow_is_not_turned_again():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = ImageOps.exif_transpose(opened(file_of(Image.fromarray(DEEP), "PNG", exif=exif)))
    np.testing.assert_array_equal(image_content(upright)["array"][..., 0], DEEP[::-1].T)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "I;16"])
def test_a_transparent_color_becomes_alpha_as_in_the_file(mode):
    gray = np.array([[0, 255, 7], [7, 8, 255]], np.uint8)
    picture = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(gray).convert(mode)
    transparent = {"RGB": (7, 7, 7), "L": 7, "P": 7, "1": 0, "I;16": 1000}[mode]
    data = file_of(picture, "PNG", transparency=transparent)
    array = image_content(opened(data))["array"]
    expected = decode_png(data)
    assert array.shape == expected.shape == (2, 3, 4)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array[..., 3], expected[..., 3])
    assert (array[..., 3] == 0).any()
    seen = array[..., 3] > 0
    np.testing.assert_array_equal(array[seen], expected[seen])


def test_premultiplied_alpha_becomes_straight():
    for mode in ("RGBa", "La"):
        picture = Image.fromarray(np.array([[[200, 128], [50, 255]]], np.uint8), "LA")
        picture = picture.convert("RGBA").convert(mode) if mode == "RGBa" else picture.convert(mode)
        array = image_content(picture)["array"]
        assert array.shape == (1, 2, 4)
        np.testing.assert_allclose(array[0, :, 0], [200, 50], atol=1)
        np.testing.assert_array_equal(array[..., 3], [[128, 255]])
