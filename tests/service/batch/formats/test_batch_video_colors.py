"""Video files: their colors are what ITU-T H.273 makes of what was encoded, upright."""

import struct

import numpy as np
import pytest
from tests.support.videos import CAT, PANNED, frames_of, packed, planar, write

from lumatile_service.batch import ingest
from lumatile_service.batch.formats.video.colors import MATRICES
from lumatile_service.batch.formats.video.frames import turned

KR_KB = {
    1: (0.2126, 0.0722),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    4: (0.30, 0.11),
    9: (0.2627, 0.0593),
}
"""MatrixCoefficients of ITU-T H.273 -> Kr and Kb, of its table 4."""


def ycbcr(rgb, matrix, *, full, bits=8):
    """(3, h, w) Y, Cb, Cr of RGB 0 ... 1, by H.273 equations 39 to 44 and 20 to 25 (full: 26 to 31)."""
    kr, kb = KR_KB[matrix]
    r, g, b = np.moveaxis(rgb.astype(np.float64), -1, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    cb, cr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    top, scale = (1 << bits) - 1, 1 << (bits - 8)
    if full:
        planes = [top * y, top * cb + (1 << (bits - 1)), top * cr + (1 << (bits - 1))]
    else:
        planes = [scale * (219 * y + 16), scale * (224 * cb + 128), scale * (224 * cr + 128)]
    return np.clip(np.rint(planes), 0, top).astype(np.uint8 if bits == 8 else np.uint16)


def rgb_of(planes, matrix, *, full, bits=8):
    """(h, w, 3) RGB 0 ... 1 of Y, Cb, Cr: the same equations solved for RGB."""
    kr, kb = KR_KB[matrix]
    y, cb, cr = planes.astype(np.float64)
    top, scale, half = (1 << bits) - 1, 1 << (bits - 8), 1 << (bits - 1)
    if full:
        y, cb, cr = y / top, (cb - half) / top, (cr - half) / top
    else:
        y, cb, cr = (y / scale - 16) / 219, (cb / scale - 128) / 224, (cr / scale - 128) / 224
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.clip(np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], -1), 0, 1)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(KR_KB))
def test_colors_are_as_the_standard_says_for_each_matrix_and_range(tmp_path, matrix, full):
    planes = ycbcr(CAT / 255, matrix, full=full)
    write(tmp_path / "d" / "a.mkv", [planar("yuv444p", planes)], colors=(matrix, 2 if full else 1))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    expected = 255 * rgb_of(planes, matrix, full=full)
    assert np.abs(source - expected).max() <= 1.0, "swscale's fixed point"
    assert np.abs(source.astype(int) - CAT).max() <= 4, "and 8 bits of YCbCr lose little"


def test_every_matrix_that_is_converted_is_tested():
    assert set(MATRICES) == set(KR_KB)


def test_h264_in_bt709_of_limited_range_is_converted_as_the_standard_says(tmp_path):
    planes = ycbcr(CAT / 255, 1, full=False)
    halved = planes.reshape(3, 80, 2, 104, 2).mean((2, 4)).round().astype(np.uint8)
    frame = planar("yuv420p", [planes[0], *halved[1:]])
    write(tmp_path / "d" / "a.mp4", [frame], "libx264", options={"qp": "0"}, colors=(1, 1))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    upsampled = np.stack([planes[0], *halved[1:].repeat(2, 1).repeat(2, 2)])
    errors = {matrix: np.abs(source - 255 * rgb_of(upsampled, matrix, full=False)).mean() for matrix in (1, 6)}
    assert errors[1] < 1.0, "chroma is halved and interpolated, nothing else differs"
    assert errors[6] > 2 * errors[1], "BT.601 it is not"


@pytest.mark.parametrize(("size", "matrix"), [((160, 208), 6), ((578, 208), 1), ((160, 1280), 1)])
def test_a_stream_that_says_no_matrix_is_bt709_where_it_is_large(tmp_path, size, matrix):
    picture = np.tile(CAT, (4, 7, 1))[: size[0], : size[1]]
    planes = ycbcr(picture / 255, matrix, full=False)
    write(tmp_path / "d" / "a.mkv", [planar("yuv444p", planes)])
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    assert np.abs(source - 255 * rgb_of(planes, matrix, full=False)).max() <= 1.0


def test_colors_that_cannot_be_converted_are_an_error_row(tmp_path):
    planes = ycbcr(CAT / 255, 1, full=False)
    write(tmp_path / "d" / "a.mkv", [planar("yuv444p", planes)], colors=(8, 1))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    (reason,) = summary.errors
    assert "matrix coefficients 8 of H.273" in reason


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [10, 12])
def test_ten_and_twelve_bits_become_sixteen(tmp_path, bits, full):
    picture = CAT / 255
    picture[:8] = 1
    planes = ycbcr(picture, 9, full=full, bits=bits)
    write(tmp_path / "d" / "a.mkv", [planar(f"yuv444p{bits}le", planes)], colors=(9, 2 if full else 1))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    assert source.dtype == np.uint16
    expected = 65535 * rgb_of(planes, 9, full=full, bits=bits)
    assert np.abs(source - expected).max() <= 16, "a quarter of a 10-bit step"
    assert np.abs(source[:8].astype(int) - 65535).max() <= 16, "white is white"


def test_ten_bit_hevc(tmp_path):
    write(tmp_path / "d" / "a.mp4", PANNED, "libx265", "yuv420p10le", options={"x265-params": "crf=5:log-level=none"})
    summary = ingest(tmp_path / "d", tmp_path / "store")
    frames = frames_of(tmp_path / "store", summary, "a")
    assert len(frames) == 12
    for number, frame in frames.items():
        assert np.abs(frame.source() / 257 - PANNED[number]).mean() < 5


@pytest.mark.parametrize(
    ("form", "picture"),
    [
        ("gray", CAT[..., 1]),
        ("gray16le", CAT[..., 1].astype(np.uint16) * 251),
        ("bgra", np.dstack([CAT, 255 - CAT[..., 0]])),
        ("rgb48le", CAT.astype(np.uint16) * 253),
    ],
)
def test_gray_alpha_and_sixteen_bits_stay_as_they_are(tmp_path, form, picture):
    frame = packed("rgba", picture).reformat(format="bgra") if form == "bgra" else packed(form, picture)
    write(tmp_path / "d" / "a.mkv", [frame], form="gbrp16le" if form == "rgb48le" else None)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    assert source.dtype == picture.dtype
    np.testing.assert_array_equal(source, picture)


@pytest.mark.parametrize("bits", [8, 10])
def test_gray_of_limited_range_is_widened(tmp_path, bits):
    scale, largest = 1 << (bits - 8), 255 if bits == 8 else 65535
    luma = np.rint(scale * (16 + 219 / 255 * CAT[..., 1])).astype(np.uint8 if bits == 8 else np.uint16)
    write(tmp_path / "d" / "a.mkv", [planar("gray" if bits == 8 else "gray10le", [luma])], colors=(2, 1))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    assert source.shape == luma.shape
    assert np.abs(source - (luma / scale - 16) * largest / 219).max() <= 2.0, "rounded twice"


def test_alpha_of_ten_bits_is_opaque_where_it_is_full(tmp_path):
    planes = ycbcr(CAT / 255, 1, full=False, bits=10)
    alpha = np.linspace(0, 1023, CAT[..., 0].size).round().astype(np.uint16).reshape(CAT.shape[:2])
    write(tmp_path / "d" / "a.mkv", [planar("yuva444p10le", [*planes, alpha])], colors=(1, 1))
    summary = ingest(tmp_path / "d", tmp_path / "store")
    source = frames_of(tmp_path / "store", summary, "a")[0].source()
    assert np.abs(source[..., 3] - 65535 * (alpha / 1023)).max() <= 1.0
    assert np.abs(source[..., :3] - 65535 * rgb_of(planes, 1, full=False, bits=10)).max() <= 16


MATRIX_OF = {
    "a quarter turn clockwise": ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    "a quarter turn counterclockwise": ((0, -1, 1, 0), np.rot90),
    "a mirror": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRIX_OF)
def test_a_display_matrix_is_applied(tmp_path, name):
    (a, b, c, d), turn = MATRIX_OF[name]
    path = write(tmp_path / "d" / "a.mov", PANNED[:3], "png", container={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")
    one = 1 << 16
    struct.pack_into(">9i", content, header + 4 + 40, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    for number, frame in frames_of(tmp_path / "store", summary, "a").items():
        np.testing.assert_array_equal(frame.source(), turn(PANNED[number]))


def test_a_display_matrix_moves_each_pixel_where_the_standard_says():
    picture = np.arange(6).reshape(2, 3)
    for (a, b, c, d), _ in MATRIX_OF.values():
        places = {(a * x + c * y, b * x + d * y): picture[y, x] for y in range(2) for x in range(3)}
        left, top = min(x for x, _ in places), min(y for _, y in places)
        shown = turned(picture, (a, b, c, d))
        assert {(x - left, y - top): value for (x, y), value in places.items()} == {
            (x, y): shown[y, x] for y in range(shown.shape[0]) for x in range(shown.shape[1])
        }
