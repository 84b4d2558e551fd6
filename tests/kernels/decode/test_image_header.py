import contextlib
import io
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lumatile_kernels.decode.errors import DecodeError
from lumatile_kernels.decode.image_header import ImageHeader, check_pixel_limit, read_header


def encoded(mode, size, file_format, **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, file_format, **options)
    return file.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


JPEG = encoded("RGB", (40, 30), "JPEG", exif=exif(6))
PNG = encoded("RGBA", (40, 30), "PNG", exif=exif(6))


def with_marker(code, replacement, file=JPEG):
    """`file` with the marker `code` turned into another one."""
    at = file.index(bytes([0xFF, code]))
    return file[: at + 1] + bytes([replacement]) + file[at + 2 :]


def with_frame_byte(offset, value):
    """The JPEG with one byte of its frame header changed; offset 0: the precision."""
    at = JPEG.index(b"\xff\xc0") + 4 + offset
    return JPEG[:at] + bytes([value]) + JPEG[at + 1 :]


@pytest.mark.parametrize(
    ("mode", "options", "components"),
    [("RGB", {}, 3), ("RGB", {"progressive": True}, 3), ("L", {}, 1), ("CMYK", {}, 4)],
)
def test_a_jpeg_says_its_size_and_components(mode, options, components):
    header = read_header(encoded(mode, (300, 200), "JPEG", **options))
    assert header == ImageHeader(
        format="jpeg", width=300, height=200, components=components, bit_depth=8, orientation=1
    )
    assert header.shape == (200, 300, min(3, components))


@pytest.mark.parametrize(
    ("mode", "bit_depth", "components", "channels"),
    [("1", 1, 1, 1), ("L", 8, 1, 1), ("I;16", 16, 1, 1), ("LA", 8, 2, 4), ("RGB", 8, 3, 3), ("RGBA", 8, 4, 4)],
)
def test_a_png_says_its_size_components_and_depth(mode, bit_depth, components, channels):
    header = read_header(encoded(mode, (300, 200), "PNG"))
    assert header == ImageHeader(
        format="png", width=300, height=200, components=components, bit_depth=bit_depth, orientation=1
    )
    assert header.shape == (200, 300, channels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_the_shape_is_the_upright_one(file_format, orientation):
    header = read_header(encoded("RGB", (40, 30), file_format, exif=exif(orientation)))
    assert header.orientation == orientation
    assert (header.height, header.width) == (30, 40)
    assert header.shape == ((30, 40, 3) if orientation < 5 else (40, 30, 3))


def test_an_orientation_out_of_range_is_upright():
    assert read_header(encoded("RGB", (40, 30), "JPEG", exif=exif(9))).orientation == 1


def test_a_picture_may_have_any_fill_bytes_before_a_marker():
    assert read_header(JPEG[:2] + b"\xff" * 100 + JPEG[2:]) == read_header(JPEG)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "not a JPEG or PNG image: 0 bytes"),
        (b"GIF89a" + bytes(20), "not a JPEG or PNG image: 26 bytes that start with b'GIF89a"),
        (JPEG[:2], "truncated JPEG: no picture data after 2 bytes"),
        (JPEG[:100], "truncated JPEG: no picture data after 100 bytes"),
        (PNG[:20], "truncated PNG: chunk b'IHDR' at byte 8 ends at byte 33, the file at byte 20"),
        (PNG[:33], "truncated PNG: no IEND chunk after 33 bytes"),
        (PNG[:17] + b"\x01" + PNG[18:], "corrupt PNG: chunk b'IHDR' at byte 8 has the checksum"),
        (JPEG[:2] + b"\xff\xe0\x00\x01" + JPEG[2:], "the segment at byte 4 has a length of 1, under 2"),
        (JPEG[:2] + b"\xff\xe0\x00\x02\x00" + JPEG[2:], "byte 6 should begin a marker and is 0x00"),
        (JPEG[:2] + b"\xff\xd9" + JPEG[2:], "marker 0xd9 at byte 3, before any picture data"),
        (with_marker(0xC0, 0xC3), "unsupported: lossless JPEG"),
        (with_marker(0xC0, 0xC9), "unsupported: arithmetic-coded JPEG"),
        (with_marker(0xC0, 0xC5), "unsupported: hierarchical JPEG"),
        (with_marker(0xC0, 0xE5), "picture data without a frame header"),
        (with_frame_byte(0, 12), "unsupported: 12-bit JPEG"),
        (with_frame_byte(2, 0), "unsupported: JPEG that states its height after the picture data"),
        (with_frame_byte(4, 0), "corrupt JPEG: a width of 0"),
        (with_frame_byte(5, 2), "unsupported: JPEG of 2 components"),
        (with_frame_byte(5, 4), "corrupt JPEG: a frame header of 15 bytes for 4 components"),
    ],
)
def test_what_is_wrong_is_said(file, message):
    with pytest.raises(DecodeError) as error:
        read_header(file)
    assert message in str(error.value)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff", JPEG[:30], PNG[:8], PNG[:33]]))
def test_hostile_bytes_give_a_header_or_a_decode_error(tail, head):
    try:
        header = read_header(head + tail)
    except DecodeError:
        return
    assert 0 < header.width < 1 << 31
    assert 0 < header.height < 1 << 31
    assert header.components in (1, 2, 3, 4)
    assert header.orientation in range(1, 9)


@given(st.sampled_from([JPEG, PNG]), st.integers(0, 700), st.binary(min_size=1, max_size=8))
def test_a_damaged_header_gives_a_header_or_a_decode_error(file, at, damage):
    damaged = file[:at] + damage + file[at + len(damage) :]
    with contextlib.suppress(DecodeError):
        assert read_header(damaged).shape[2] in (1, 3, 4)


@pytest.mark.parametrize(
    "file",
    [
        b"\xff\xd8" + b"\xff" * (8 << 20),
        b"\xff\xd8" + b"\xff\xd0" * (1 << 20),
        b"\xff\xd8" + b"\xff\xe1\x00\x08Exif\0\0" * (1 << 18),
        PNG[:33] + b"\0\0\0\0teXt\0\0\0\0" * (1 << 18),
        JPEG[:2] + b"\xff\xe1\x00\x14Exif\0\0MM\0*\x00\x00\x00\x08\xff\xff" + JPEG[2:],
    ],
    ids=["fill", "markers", "exif", "chunks", "directory"],
)
def test_megabytes_of_nonsense_are_refused_or_read_in_linear_time(file):
    start = time.perf_counter()
    with contextlib.suppress(DecodeError):
        read_header(file)
    assert time.perf_counter() - start < 10  # some 0.5 s; a quadratic walk would take minutes


def test_the_pixel_limit_is_checked_on_the_header():
    header = read_header(encoded("L", (1000, 100), "PNG"))
    check_pixel_limit(header, 100_000)
    with pytest.raises(DecodeError, match=r"may have 99999 pixels, and this PNG has 100000 \(1000 x 100\)"):
        check_pixel_limit(header, 99_999)
    check_pixel_limit(read_header(JPEG))


def test_a_bomb_is_over_the_default_limit():
    header = ImageHeader(format="jpeg", width=65_500, height=65_500, components=3, bit_depth=8, orientation=1)
    with pytest.raises(DecodeError, match="89478485"):
        check_pixel_limit(header)


def test_reading_headers_loads_no_decoder():
    code = (
        "import sys; from lumatile_kernels.decode.image_header import read_header;"
        "print({'simplejpeg', 'imagecodecs', 'nvidia.dali'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_headers_agree_with_pillow_on_random_sizes():
    random = np.random.default_rng(0)
    for width, height in random.integers(1, 500, (20, 2)).tolist():
        for file_format in ("JPEG", "PNG"):
            file = encoded("RGB", (width, height), file_format)
            header = read_header(file)
            assert (header.width, header.height) == Image.open(io.BytesIO(file)).size
