"""JPEG files on the host: what decoders give, and how they refuse.

Longer than other files: its tests share the decoders and their files.
"""

import importlib.resources
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.jpeg_files import (
    CMYK,
    COLOR,
    GRAY,
    PHOTO,
    PROGRESSIVE,
    WHOLE,
    by_pillow,
    encoded,
    oriented,
    without_segment,
)

from lumatile_kernels.decode.dali_places import HostPlace
from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.jpeg import DaliDecoder, TurboDecoder, select_jpeg_decoder
from lumatile_kernels.decode.turbo_jpeg import read_jpeg_header

try:
    DALI = DaliDecoder(threads=2)
except DecoderUnavailableError as e:
    DALI, NO_DALI = None, str(e)
else:
    NO_DALI = ""

needs_dali = pytest.mark.skipif(DALI is None, reason=NO_DALI)


@pytest.fixture(params=["turbo", pytest.param("dali", marks=needs_dali)])
def decoder(request):
    return DALI if request.param == "dali" else TurboDecoder(threads=2)


def decoded(decoder, file):
    (result,) = decoder.decode([file])
    assert not isinstance(result, DecodeError), result
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    return result


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 8), (15, 17), (16, 16), (33, 31), (203, 301)])
def test_every_subsampling_and_size_is_pillows_bits(decoder, subsampling, size):
    file = simplejpeg.encode_jpeg(PHOTO[: size[0], : size[1]].copy(), 85, "RGB", subsampling)
    assert np.array_equal(decoded(decoder, file), by_pillow(file))


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"optimize": True},
        {"restart_marker_blocks": 3},
        {"keep_rgb": True},
        {"quality": 1},
        {"quality": 100, "subsampling": 0},
    ],
    ids=str,
)
def test_every_way_of_encoding_is_pillows_bits(decoder, options):
    for image in (PHOTO, PHOTO[:101, :99], PHOTO[:101, :99, 0]):
        file = encoded(image, **({} if image.ndim == 2 and "keep_rgb" in options else options))
        assert np.array_equal(decoded(decoder, file), by_pillow(file))


def test_real_photos_are_pillows_bits(decoder):
    images = importlib.resources.files("sklearn.datasets.images")
    for name in ("china.jpg", "flower.jpg"):
        file = (images / name).read_bytes()
        assert decoded(decoder, file).shape == (427, 640, 3)
        assert np.array_equal(decoded(decoder, file), by_pillow(file))


def test_gray_stays_one_channel(decoder):
    assert decoded(decoder, GRAY).shape == (100, 130, 1)
    assert np.array_equal(decoded(decoder, GRAY), by_pillow(GRAY))


@pytest.mark.parametrize("adobe", [True, False])
@pytest.mark.parametrize("colorspace", ["CMYK", "YCCK"])
def test_cmyk_is_pillows_rgb(decoder, colorspace, adobe):
    imagecodecs = pytest.importorskip("imagecodecs")
    inks = np.random.default_rng(0).integers(0, 256, (64, 80, 4), np.uint8)
    file = imagecodecs.jpeg8_encode(inks, level=95, colorspace="CMYK", outcolorspace=colorspace)
    file = file if adobe else without_segment(file, 0xEE)
    assert np.array_equal(decoded(decoder, file), by_pillow(file))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(decoder, orientation):
    for image in (PHOTO[:40, :70], PHOTO[:40, :70, 1], Image.fromarray(PHOTO[:40, :70]).convert("CMYK")):
        file = encoded(image, exif=oriented(orientation))
        assert np.array_equal(decoded(decoder, file), by_pillow(file))


def test_both_byte_orders_of_exif_are_read(decoder):
    for order, entry in (("little", b"II*\0\x08\0\0\0"), ("big", b"MM\0*\0\0\0\x08")):
        block = b"Exif\0\0" + entry + b"".join(n.to_bytes(size, order) for n, size in ((1, 2), (0x0112, 2), (3, 2)))
        block += (1).to_bytes(4, order) + (6).to_bytes(2, order) + bytes(6)
        file = COLOR[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + COLOR[2:]
        assert np.array_equal(decoded(decoder, file), np.rot90(by_pillow(COLOR), -1))


@pytest.mark.parametrize("file", WHOLE, ids=["gray", "color", "progressive", "cmyk"])
def test_a_file_cut_anywhere_is_truncated(decoder, file):
    cuts = [*range(2, len(file) - 1, 97), len(file) - 2, len(file) - 1]
    for cut, result in zip(cuts, decoder.decode([file[:cut] for cut in cuts]), strict=True):
        assert isinstance(result, DecodeError)
        assert str(result).startswith("truncated JPEG: no ")
        assert f"after {cut} bytes" in str(result)


def test_the_message_says_what_is_missing(decoder):
    (error,) = decoder.decode([COLOR[:-2]])
    assert str(error) == f"truncated JPEG: no end-of-image marker after {len(COLOR) - 2} bytes"


def test_damaged_picture_data_is_corrupt(decoder):
    middle = COLOR.index(b"\xff\xda") + 500
    for damage in (b"\xff" * 40, b"\x00" * 40, b"\x55" * 40):
        file = COLOR[:middle] + damage + COLOR[middle + 40 :]
        (error,) = decoder.decode([file])
        assert isinstance(error, DecodeError)
        assert str(error).startswith(f"corrupt JPEG of {len(file)} bytes: ")
    (error,) = decoder.decode([COLOR[: middle // 2 * 2] + COLOR[-2:]])
    assert "corrupt JPEG" in str(error)


def test_what_follows_the_picture_is_ignored(decoder):
    assert np.array_equal(decoded(decoder, COLOR + b"appended"), by_pillow(COLOR))


def test_a_png_is_not_a_jpeg(decoder):
    file = io.BytesIO()
    Image.fromarray(PHOTO[:4, :4]).save(file, "PNG")
    (error,) = decoder.decode([file.getvalue()])
    assert str(error) == "not a JPEG image but PNG"


def test_a_file_of_endless_scans_is_refused(decoder):
    scan = PROGRESSIVE.rindex(b"\xff\xda")
    bomb = PROGRESSIVE[:scan] + (PROGRESSIVE[scan:-2] * 501) + PROGRESSIVE[-2:]
    (error,) = decoder.decode([bomb])
    assert "a JPEG may have 500 scans, and this one has 5" in str(error)


def test_an_unusual_subsampling_is_called_unsupported(decoder):
    at = COLOR.index(b"\xff\xc0") + 2 + 2 + 6 + 1 + 3  # the second component's sampling factors
    (error,) = decoder.decode([COLOR[:at] + b"\x33" + COLOR[at + 1 :]])
    assert str(error).startswith("unsupported: JPEG with chroma subsampling other than")


def test_a_bad_file_costs_only_itself(decoder):
    files = [COLOR, COLOR[:900], GRAY, b"", CMYK, PROGRESSIVE[:-3], COLOR, GRAY[:300], PROGRESSIVE] * 2
    for _ in range(2):  # and the decoder works on
        results = decoder.decode(files)
        assert [isinstance(r, DecodeError) for r in results] == [file not in WHOLE for file in files]
        for file, result in zip(files, results, strict=True):
            assert file not in WHOLE or np.array_equal(result, by_pillow(file))


def test_no_files_give_no_results(decoder):
    assert decoder.decode([]) == []


def test_pictures_lie_in_the_memory_that_is_given(decoder):
    given_memory = []

    def allocate(nbytes):
        given_memory.append(np.empty(nbytes, np.uint8))
        return given_memory[-1]

    for result in decoder.decode(WHOLE, allocate=allocate):
        assert any(np.shares_memory(result, memory) and result.size == memory.size for memory in given_memory)


def test_results_outlive_the_next_call(decoder):
    first = decoded(decoder, COLOR)
    decoded(decoder, encoded(255 - PHOTO[:120, :150]))
    assert np.array_equal(first, by_pillow(COLOR))


@needs_dali
@settings(deadline=None)
@given(st.sampled_from(WHOLE), st.floats(0, 1), st.binary(min_size=1, max_size=12), st.booleans())
def test_decoders_agree_on_damaged_files(file, where, damage, insert):
    at = 300 + int(where * (len(file) - 300))  # behind the size in the frame header
    damaged = file[:at] + damage + file[at if insert else at + len(damage) :]
    (dali,), (turbo,) = DALI.decode([damaged]), TurboDecoder().decode([damaged])
    if isinstance(turbo, DecodeError):
        assert str(dali) == str(turbo)
    else:
        assert np.array_equal(dali, turbo)


@needs_dali
def test_what_dali_alone_refuses_is_decoded_all_the_same(monkeypatch, caplog):
    decoder = DaliDecoder(threads=2)
    monkeypatch.setattr(HostPlace, "check", lambda _, file: read_jpeg_header(file))
    caplog.set_level("INFO")
    results = decoder.decode([COLOR, COLOR[:-900]])  # unchecked, the second one fails the batch inside DALI
    assert np.array_equal(results[0], by_pillow(COLOR))
    assert isinstance(results[1], DecodeError)
    assert "DALI failed on 2 JPEG files, each is tried separately" in caplog.text
    assert "DALI failed on a JPEG file, libjpeg-turbo decodes it" in caplog.text
    assert np.array_equal(decoded(decoder, COLOR), by_pillow(COLOR))


@needs_dali
def test_threads_may_share_a_decoder():
    def work():
        results.extend(np.array_equal(decoded(DALI, COLOR), by_pillow(COLOR)) for _ in range(5))

    results = []
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("name", ["turbo", pytest.param("dali", marks=needs_dali)])
def test_forked_children_decode_and_exit(name):
    code = f"""
import os, sys, numpy as np, simplejpeg
from lumatile_kernels.decode.jpeg import select_jpeg_decoder
file = simplejpeg.encode_jpeg(np.zeros((20, 30, 3), np.uint8))
decoder = select_jpeg_decoder({name!r})
children = []
for decodes in (True, False):
    children.append(os.fork())
    if not children[-1]:
        sys.exit(decodes and [r.shape for r in decoder.decode([file] * 3)] != [(20, 30, 3)] * 3)
    decoder.decode([file])
print([os.waitpid(child, 0)[1] for child in children])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "[0, 0]\n", result.stderr


@pytest.mark.parametrize("name", ["turbo", pytest.param("dali", marks=needs_dali)])
def test_the_last_files_are_decoded_while_the_interpreter_exits(name):
    code = f"""
import atexit
atexit.register(lambda: print([r.shape for r in decoder.decode([file] * 3)]))  # before DALI is imported: runs after it
import numpy as np, simplejpeg
from lumatile_kernels.decode.jpeg import select_jpeg_decoder
file = simplejpeg.encode_jpeg(np.zeros((20, 30, 3), np.uint8))
decoder = select_jpeg_decoder({name!r})
decoder.decode([file])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "[(20, 30, 3), (20, 30, 3), (20, 30, 3)]\n", result.stderr


def test_importing_the_module_loads_no_decoder():
    code = "import sys, lumatile_kernels.decode.jpeg; print({'simplejpeg', 'nvidia.dali'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_name_says_library_and_version(decoder):
    assert decoder.name.split()[0] in ("simplejpeg", "dali-cpu")
    assert decoder.name.split()[1][0].isdigit()
    assert decoder.decoded_by(decoded(decoder, COLOR)) == decoder.name


def test_auto_takes_turbo_on_the_host():
    assert isinstance(select_jpeg_decoder(), TurboDecoder)


def test_dali_must_be_installed_where_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    assert isinstance(select_jpeg_decoder(), TurboDecoder)
    with pytest.raises(DecoderUnavailableError, match="'dali' needs NVIDIA DALI"):
        select_jpeg_decoder("dali")


def test_without_simplejpeg_there_is_no_decoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    for name in ("auto", "dali", "turbo"):
        with pytest.raises(DecoderUnavailableError, match="needs the package simplejpeg"):
            select_jpeg_decoder(name)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="must be 'auto', 'dali' or 'turbo', not 'pillow'"):
        select_jpeg_decoder("pillow")
