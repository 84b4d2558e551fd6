"""Colors of 16 bits keep all of them, in every container that cameras and scanners write; compared with tifffile."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import lumatile as lt
from lumatile.errors import ImageFileError
from lumatile_service.batch import ingest
from lumatile_service.batch.formats.contents import pillow_image

RNG = np.random.default_rng(3)
COLORS = RNG.integers(0, 65536, (9, 7, 3), np.uint16)


def tiff(array, **options):
    content = io.BytesIO()
    tifffile.imwrite(content, array, photometric="rgb", **options)
    return content.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
    ],
)
def test_16_bit_colors_of_tiff_are_stored_as_uint16(tmp_path, options):
    array = COLORS.transpose(2, 0, 1) if "planarconfig" in options else COLORS
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.tif").write_bytes(tiff(np.ascontiguousarray(array), **options))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert summary.errors == {}
    source = lt.open_store(tmp_path / "store").recording().latest_at("d").source()
    np.testing.assert_array_equal(source, COLORS)
    assert source.dtype == np.uint16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_tiff_is_upright(orientation):
    content = tiff(COLORS, extratags=[(274, "H", 1, orientation, True)])
    eight = io.BytesIO()
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray((COLORS >> 8).astype(np.uint8)).save(eight, "tiff", exif=exif)
    np.testing.assert_array_equal(pillow_image(content, 100) >> 8, pillow_image(eight.getvalue(), 100))


def test_16_bit_alpha_of_tiff_is_straight():
    alpha = np.full((9, 7, 1), 30000, np.uint16)
    straight = np.concatenate([COLORS, alpha], axis=2)
    np.testing.assert_array_equal(pillow_image(tiff(straight, extrasamples=["unassalpha"]), 100), straight)


def test_several_pages_give_the_first():
    pages = np.stack([COLORS, COLORS[::-1]])
    np.testing.assert_array_equal(pillow_image(tiff(pages), 100), COLORS)


def test_16_bit_colors_of_netpbm_are_stored_as_uint16(tmp_path):
    cv2.imwrite(str(tmp_path / "a.ppm"), COLORS[..., ::-1])
    np.testing.assert_array_equal(pillow_image((tmp_path / "a.ppm").read_bytes(), 100), COLORS)
    text = " ".join(map(str, COLORS.ravel()))
    np.testing.assert_array_equal(pillow_image(f"P3\n# plain\n7 9\n65535\n{text}\n".encode(), 100), COLORS)


def test_netpbm_of_another_white_is_scaled():
    twelve = COLORS >> 4
    found = pillow_image(b"P6 7 9 4095\n" + twelve.astype(">u2").tobytes(), 100)
    np.testing.assert_array_equal(found, np.round(twelve / 4095 * 65535).astype(np.uint16))


@pytest.mark.parametrize("cut", [1, 100])
def test_a_truncated_file_of_16_bits_is_refused(tmp_path, cut):
    for content in (b"P6 7 9 65535\n" + COLORS.astype(">u2").tobytes(), tiff(COLORS, compression="zlib")):
        with pytest.raises(ImageFileError, match=r"truncated or corrupt|Pillow cannot decode"):
            pillow_image(content[:-cut], 100)


def test_equal_errors_of_pillow_are_one_reason(tmp_path):
    (tmp_path / "d").mkdir()
    for number in range(5):
        (tmp_path / f"d/{number}.webp").write_bytes(b"broken")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    ((reason, count),) = summary.errors.items()
    assert count == 5
    assert "0x" not in reason
