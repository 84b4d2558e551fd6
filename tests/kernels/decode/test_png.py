import contextlib
import io
import struct
import sys
import zlib

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

pytest.importorskip("imagecodecs")

from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import read_header
from lumatile_kernels.decode.png import decode_png, encode_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel by color type."""
KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (4, 8), (4, 16), (6, 8), (6, 16)]
"""Color types and bit depths without a palette."""
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""First x and y, step in x and y of each pass."""


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def scanlines(samples, bit_depth):
    """Unfiltered rows; `samples`: (h, w, channels)."""
    rows = samples.reshape(len(samples), -1)
    if bit_depth >= 8:
        packed = [row.astype(f">u{bit_depth // 8}").tobytes() for row in rows]
    else:
        packed = [np.packbits((row[:, None] >> np.arange(bit_depth)[::-1]) & 1).tobytes() for row in rows]
    return b"".join(b"\0" + row for row in packed)


def handmade(samples, color, bit_depth, *, interlaced=False, extra=()):
    """A PNG file made by the book. `samples`: (h, w, channels) integers; `extra`: chunks before the picture's."""
    height, width, _ = samples.shape
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7] if interlaced else [samples]
    data = b"".join(scanlines(part, bit_depth) for part in passes if part.size)
    head = struct.pack(">IIBBBBB", width, height, bit_depth, color, 0, 0, interlaced)
    body = zlib.compress(data)
    return b"".join(
        [SIGNATURE, chunk(b"IHDR", head), *(chunk(*e) for e in extra), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    )


def random_samples(color, bit_depth, size=(13, 11)):
    return np.random.default_rng(color + bit_depth).integers(0, 1 << bit_depth, (*size, CHANNELS[color]))


def expanded(samples, color, bit_depth):
    """What decoding gives: 8 or 16 bits a sample, gray with alpha as RGBA."""
    pixels = (samples * (255 // ((1 << bit_depth) - 1)) if bit_depth < 8 else samples).astype(
        np.uint16 if bit_depth == 16 else np.uint8
    )
    return pixels[:, :, [0, 0, 0, 1]] if color == 4 else pixels


def assert_decodes_to(file, expected):
    picture = decode_png(file)
    assert picture.dtype == expected.dtype
    assert picture.shape == expected.shape == read_header(file).shape
    assert np.array_equal(picture, expected)
    assert picture.flags.c_contiguous


WHOLE = handmade(random_samples(2, 8), 2, 8, extra=[(b"tEXt", b"Title\0tiles")])


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bit_depth"), KINDS)
def test_every_color_type_and_depth_gives_its_samples(color, bit_depth, interlaced):
    samples = random_samples(color, bit_depth)
    file = handmade(samples, color, bit_depth, interlaced=interlaced)
    assert_decodes_to(file, expanded(samples, color, bit_depth))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("alphas", [0, 1])
@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8])
def test_palettes_are_looked_up_and_their_alpha_kept(bit_depth, alphas, interlaced):
    samples = random_samples(3, bit_depth)
    palette = np.random.default_rng(0).integers(0, 256, (1 << bit_depth, 4), np.uint8)
    palette[(1 << bit_depth) - 1, 3] = 255  # not stated below
    extra = [(b"PLTE", palette[:, :3].tobytes()), (b"tRNS", palette[:-1, 3].tobytes())][: 1 + alphas]
    file = handmade(samples, 3, bit_depth, interlaced=interlaced, extra=extra)
    assert_decodes_to(file, palette[samples[:, :, 0]][:, :, : 3 + alphas])


@pytest.mark.parametrize(("color", "bit_depth"), [kind for kind in KINDS if kind[0] in (0, 2)])
def test_a_transparent_color_becomes_alpha(color, bit_depth):
    samples = random_samples(color, bit_depth)
    file = handmade(samples, color, bit_depth, extra=[(b"tRNS", samples[4, 5].astype(">u2").tobytes())])
    pixels = expanded(samples, color, bit_depth)
    opaque = np.iinfo(pixels.dtype).max
    alpha = np.where((samples == samples[4, 5]).all(2), 0, opaque)[:, :, None]
    assert_decodes_to(file, np.concatenate([np.broadcast_to(pixels, (13, 11, 3)), alpha], 2).astype(pixels.dtype))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("picture", ["astronaut", "coins", "logo", "page"])
def test_real_pictures_are_pillows_pixels(picture, mode):
    image = Image.fromarray(getattr(skimage.data, picture)()).convert("RGB").convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    shown = {"1": "L", "LA": "RGBA", "P": "RGB"}.get(mode, mode)
    expected = np.asarray(image.convert(shown))
    assert_decodes_to(file.getvalue(), expected.reshape(*expected.shape[:2], -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()[:20, :35]).save(file, "PNG", exif=exif)
    assert_decodes_to(file.getvalue(), np.asarray(ImageOps.exif_transpose(Image.open(file))))


def test_of_an_animation_the_still_picture_is_read():
    stills = [Image.fromarray(skimage.data.astronaut()[:20, i : 35 + i]) for i in range(3)]
    file = io.BytesIO()
    stills[0].save(file, "PNG", save_all=True, append_images=stills[1:])
    assert_decodes_to(file.getvalue(), np.asarray(stills[0]))


def test_no_changed_byte_goes_unnoticed():
    for at in range(len(WHOLE)):
        with pytest.raises(DecodeError):
            decode_png(WHOLE[:at] + bytes([WHOLE[at] ^ 0x10]) + WHOLE[at + 1 :])


def test_a_file_cut_anywhere_is_truncated():
    for cut in range(8, len(WHOLE)):
        with pytest.raises(DecodeError, match=r"^truncated PNG: .*\b(after|at byte) " + str(cut)):
            decode_png(WHOLE[:cut])


def test_what_follows_the_picture_is_ignored():
    assert np.array_equal(decode_png(WHOLE + b"appended"), decode_png(WHOLE))


HEAD = WHOLE[:33]
ROWS = zlib.compress(scanlines(random_samples(2, 8), 8))
END = chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (HEAD + END, "corrupt PNG: no picture data"),
        (HEAD + chunk(b"IDAT", ROWS[: len(ROWS) // 2]) + END, "corrupt PNG of 2"),
        (HEAD + chunk(b"IDAT", zlib.compress(bytes(100))) + END, "corrupt PNG of "),
        (HEAD + chunk(b"IDAT", ROWS[:-4] + b"abcd") + END, "corrupt PNG of "),
        (HEAD + chunk(b"IDAT", zlib.compress(b"\x09" + bytes(441))) + END, "corrupt PNG of "),
        (
            HEAD + chunk(b"IDAT", ROWS[:50]) + chunk(b"tEXt", b"a\0b") + chunk(b"IDAT", ROWS[50:]) + END,
            "corrupt PNG of",
        ),
        (
            HEAD + chunk(b"NEWS", b"") + chunk(b"IDAT", ROWS) + END,
            "corrupt PNG: unknown critical chunk b'NEWS' at byte 33",
        ),
        (handmade(random_samples(3, 8), 3, 8), "corrupt PNG of "),
        (handmade(random_samples(2, 8), 1, 8), "corrupt PNG: color type 1 with 8 bits a sample"),
        (handmade(random_samples(2, 8)[:0], 2, 8), "corrupt PNG: 11 x 0 pixels"),
        (b"\xff\xd8\xff\xd9", "corrupt JPEG"),
        (b"", "not a JPEG or PNG image"),
    ],
    ids=[
        "no picture",
        "half a stream",
        "too few rows",
        "zlib checksum",
        "filter",
        "split",
        "unknown chunk",
        "no palette",
        "color type",
        "no rows",
        "jpeg",
        "empty",
    ],
)
def test_what_is_wrong_is_said(file, message):
    with pytest.raises(DecodeError) as error:
        decode_png(file)
    assert str(error.value).startswith(message)


@settings(deadline=None)
@given(
    st.sampled_from([b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf", b"gAMA", b"acTL"]),
    st.binary(max_size=40),
    st.sampled_from(KINDS),
)
def test_hostile_chunks_give_a_picture_or_a_decode_error(kind, body, color_and_depth):
    file = handmade(random_samples(*color_and_depth, (3, 2)), *color_and_depth, extra=[(kind, body)])
    with contextlib.suppress(DecodeError):
        assert decode_png(file).shape[2] in (1, 3, 4)


@given(
    hnp.arrays(
        st.sampled_from([np.dtype("u1"), np.dtype("<u2"), np.dtype(">u2")]),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])),
    ),
    st.sampled_from(["C", "F", "reversed", "read-only"]),
)
def test_encoded_pictures_come_back(array, layout):
    array = {"C": array, "F": np.asfortranarray(array), "reversed": array[::-1, ::-1], "read-only": array}[layout]
    array.flags.writeable = layout != "read-only"
    assert_decodes_to(encode_png(array), array.astype(array.dtype.newbyteorder("=")))


def test_pillow_reads_what_is_encoded():
    photo = skimage.data.astronaut()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(photo)))), photo)
    depth = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(depth)))), depth)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 3, 2), np.uint8), np.zeros((3, 3), np.float32), np.zeros((0, 3), np.uint8)]
)
def test_what_is_no_png_picture_is_refused(array):
    with pytest.raises(ValueError, match=r"a PNG picture is \(h, w\) or"):
        encode_png(array)


def test_without_imagecodecs_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(DecoderUnavailableError, match=r"lumatile\[local\]"):
        decode_png(WHOLE)
