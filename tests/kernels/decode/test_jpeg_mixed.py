"""JPEG decode on a GPU. There is none here: DALI's host operator stands in for nvJPEG, and the CPU for the device.

So all but DALI's "mixed" operator is real: checks, batches, retries, fallbacks, copies. Tests marked `gpu` run that.

Longer than other files: its tests share the stand-in of nvJPEG.
"""

import ctypes
import logging
import os
import struct
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.kernels.cuda.cuda_on_cpu.deferred import DeferredDevice
from tests.kernels.cuda.cuda_on_cpu.device import POISON, CpuDevice, HostMemory
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
    with_segment,
    without_segment,
)

from lumatile_kernels.cuda.arrays import DeviceArray
from lumatile_kernels.decode import dali_jpeg
from lumatile_kernels.decode.dali_pipelines import DaliPipelines
from lumatile_kernels.decode.dali_places import GpuPlace
from lumatile_kernels.decode.errors import DecodeError, DecoderUnavailableError
from lumatile_kernels.decode.image_header import read_header
from lumatile_kernels.decode.jpeg import DaliDecoder, TurboDecoder, select_jpeg_decoder
from lumatile_kernels.decode.nvjpeg_input import nvjpeg_input

pytest.importorskip("nvidia.dali")
TURBO = TurboDecoder(threads=2)
NO_SUCH_DEVICE = 10_000

UNQUANTIZED = without_segment(COLOR, 0xDB)
"""Refused by DALI, and by libjpeg-turbo."""

PLAIN_MARKER = COLOR[:2] + b"\xff\x01" + COLOR[2:]
"""Refused by DALI's parser only: a marker without a segment."""


class Lent:
    """A picture of DALI's, in device memory."""

    def __init__(self, device, picture):
        self._shape = picture.shape
        self.memory = HostMemory(picture.nbytes)
        device._memory[self.memory.pointer] = weakref.ref(self.memory)
        ctypes.memmove(self.memory.pointer, picture.ctypes.data, picture.nbytes)

    def shape(self):
        return list(self._shape)

    def data_ptr(self):
        return self.memory.pointer

    def overwrite(self):
        ctypes.memset(self.memory.pointer, POISON, self.memory.nbytes)


class StandIn(GpuPlace):
    """A GpuPlace with DALI's host operator, whose pictures are overwritten as soon as they have been taken."""

    operator_device = "cpu"

    def __init__(self, device, hw_decoder_load):
        super().__init__(device, hw_decoder_load)
        self.number = None
        self.batches = []

    def take(self, tensors, headers, allocate):
        self.batches.append([header.shape for header in headers])
        lent = [Lent(self._device, np.asarray(tensors[i])) for i in range(len(headers))]
        pictures = super().take(lent, headers, allocate)
        for tensor in lent:
            tensor.overwrite()
        return pictures


@pytest.fixture(params=[CpuDevice, DeferredDevice])
def device(request):
    device = request.param()
    yield device
    assert device.intact()
    if isinstance(device, DeferredDevice):
        device.check()


@pytest.fixture
def decoder(device, monkeypatch):
    monkeypatch.setattr(dali_jpeg, "GpuPlace", StandIn)
    decoder = DaliDecoder("mixed", on=device, threads=2)
    decoder._place.batches.clear()
    return decoder


def on_device(decoder, picture):
    """The content of a picture that must be on the device."""
    assert isinstance(picture, DeviceArray), picture
    assert picture.dtype == np.uint8
    assert picture.pointer % 256 == 0
    assert decoder.decoded_by(picture) == decoder.name
    return picture.host()


def on_host(decoder, picture):
    """The content of a picture that must be on the host."""
    assert isinstance(picture, np.ndarray), picture
    assert decoder.decoded_by(picture) == TURBO.name
    return picture


def messages(caplog, level):
    return [r.getMessage() for r in caplog.records if r.levelno == level and r.name.startswith("lumatile_kernels")]


def test_pictures_of_all_sizes_and_kinds_are_on_the_device(decoder):
    images = [PHOTO[:h, :w] for h, w in ((1, 1), (2, 3), (8, 8), (15, 17), (203, 301), (512, 512), (1, 400))]
    files = [encoded(image, progressive=i % 2 == 1) for i, image in enumerate(images)]
    files += [encoded(np.ascontiguousarray(image[..., 1]), progressive=i % 2 == 1) for i, image in enumerate(images)]
    order = np.random.default_rng(0).permutation(len(files))
    files = [files[i] for i in order]
    for file, picture in zip(files, decoder.decode(files), strict=True):
        assert picture.shape == read_header(file).shape
        assert np.array_equal(on_device(decoder, picture), by_pillow(file))
    assert [len(batch) for batch in decoder._place.batches] == [7, 7]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(decoder, orientation):
    cmyk = Image.fromarray(PHOTO[:40, :70]).convert("CMYK")
    for image, content in ((PHOTO[:40, :70], on_device), (PHOTO[:40, :70, 1], on_device), (cmyk, on_host)):
        file = encoded(image, exif=oriented(orientation))
        (picture,) = decoder.decode([file])
        assert np.array_equal(content(decoder, picture), by_pillow(file))


def exif(*entries, order="<", tail=b""):
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0" + start + body + bytes(4) + tail


@pytest.mark.parametrize(
    "blocks",
    [
        [exif((0x0112, 3, 1, b"\x06\0\0\0")), exif((0x0112, 3, 1, b"\x03\0\0\0"))],
        [exif((0x0112, 3, 1, b"\0\x08\0\0"), order=">")],
        [exif((0x0112, 4, 1, b"\x06\0\0\0"))],
        [exif((0x0112, 3, 2, b"\x06\0\0\0"))],
        [exif((0x0112, 3, 1, b"\0\0\0\0"))],
        [exif((0x0112, 3, 1, b"\x09\0\0\0"))],
        [exif((0x010F, 2, 900, b"\xff\xff\0\0"), (0x0112, 3, 1, b"\x06\0\0\0"))],
        [exif(), exif((0x0112, 3, 1, b"\x06\0\0\0"))],
        [b"http://ns.adobe.com/xap/1.0/\0", exif((0x0112, 3, 1, b"\x05\0\0\0"))],
        [b"Exif\0\0", b"Exif\0\0II*\0"],
    ],
    ids=["two", "big-endian", "long", "count", "0", "9", "odd-entry", "second-only", "xmp-first", "cut"],
)
def test_odd_exif_is_read_as_the_other_decoders_read_it(decoder, blocks):
    file = COLOR
    for block in reversed(blocks):
        file = with_segment(file, 0xE1, block)
    (picture,), (other,) = decoder.decode([file]), TURBO.decode([file])
    assert np.array_equal(on_device(decoder, picture), other)


def test_a_file_without_exif_is_not_copied():
    assert nvjpeg_input(COLOR, read_header(COLOR)) is COLOR


def test_cmyk_is_decoded_on_the_host(decoder):
    pictures = decoder.decode([CMYK, COLOR, CMYK])
    assert np.array_equal(on_host(decoder, pictures[0]), by_pillow(CMYK))
    assert np.array_equal(on_device(decoder, pictures[1]), by_pillow(COLOR))


def test_components_that_are_rgb_are_decoded_on_the_host(decoder):
    adobe = with_segment(COLOR, 0xEE, b"Adobe\0\x64" + bytes(4) + b"\0")
    for file in (encoded(PHOTO[:40, :70], keep_rgb=True), without_segment(adobe, 0xE0)):
        (picture,) = decoder.decode([file])
        assert np.array_equal(on_host(decoder, picture), by_pillow(file))


@pytest.mark.parametrize(
    "bad", [UNQUANTIZED, COLOR[:-500], b"", b"\xff\xd8\xff"], ids=["corrupt", "cut", "empty", "soi"]
)
@pytest.mark.parametrize("at", [0, 64, 127])
def test_one_bad_file_in_a_batch_of_128_costs_only_itself(decoder, bad, at, caplog):
    caplog.set_level("INFO")
    sizes = np.random.default_rng(at).integers(1, 60, (128, 2))
    files = [encoded(PHOTO[:h, :w]) for h, w in sizes]
    files[at] = bad
    for _ in range(2):  # and the decoder works on
        results = decoder.decode(files)
        for i, (file, result) in enumerate(zip(files, results, strict=True)):
            if i == at:
                assert isinstance(result, DecodeError)
                assert str(result) == str(TURBO.decode([bad])[0])
            else:
                assert np.array_equal(on_device(decoder, result), by_pillow(file))
    assert messages(caplog, logging.ERROR) == []
    if bad is UNQUANTIZED:
        assert "DALI failed on 128 JPEG files, each is tried separately" in caplog.text
    else:  # DALI has not seen it
        assert [len(batch) for batch in decoder._place.batches] == [127, 127]


def test_what_dali_alone_refuses_is_decoded_on_the_host(decoder):
    pictures = decoder.decode([COLOR, PLAIN_MARKER, PROGRESSIVE])
    assert np.array_equal(on_host(decoder, pictures[1]), by_pillow(COLOR))
    for picture, file in ((pictures[0], COLOR), (pictures[2], PROGRESSIVE)):
        assert np.array_equal(on_device(decoder, picture), by_pillow(file))


def test_a_picture_of_another_shape_than_the_header_says_is_not_taken(decoder, monkeypatch):
    monkeypatch.setattr(Lent, "shape", lambda lent: [*lent._shape[:1], 99, 3] if lent._shape[0] == 120 else lent._shape)
    color, gray = decoder.decode([COLOR, GRAY])
    assert np.array_equal(on_host(decoder, color), by_pillow(COLOR))
    assert np.array_equal(on_device(decoder, gray), by_pillow(GRAY))


def test_batches_are_bounded_in_files(decoder):
    files = [encoded(PHOTO[: 1 + i % 7, :9]) for i in range(300)]
    for file, picture in zip(files, decoder.decode(files), strict=True):
        assert np.array_equal(on_device(decoder, picture), by_pillow(file))
    assert [len(batch) for batch in decoder._place.batches] == [128, 128, 44]


def test_batches_are_bounded_in_bytes(decoder):
    decoder._place.batch_bytes = 3 * 100 * 100
    sides = [50, 50, 50, 50, 10, 200, 10, 90, 90]
    decoder.decode([encoded(PHOTO[:side, :side]) for side in sides])
    batches = [[h for h, _, _ in batch] for batch in decoder._place.batches]
    assert batches == [[50, 50, 50, 50], [10], [200], [10, 90], [90]]


def test_no_files_give_no_results(decoder):
    assert decoder.decode([]) == []


def test_results_outlive_the_next_call(decoder):
    (first,) = decoder.decode([COLOR])
    decoder.decode([encoded(255 - PHOTO[:120, :150])])
    assert np.array_equal(on_device(decoder, first), by_pillow(COLOR))


def test_memory_is_free_again_when_the_pictures_are_garbage(decoder):
    pictures = decoder.decode([COLOR, PROGRESSIVE])
    memory = weakref.ref(pictures[0].owner)
    del pictures[0]
    assert memory() is not None
    del pictures
    assert memory() is None


def test_without_room_on_the_device_pictures_are_decoded_on_the_host(decoder, device, caplog):
    caplog.set_level("INFO")
    device.room = 10_000
    for _ in range(2):
        for file, picture in zip(WHOLE, decoder.decode(WHOLE), strict=True):
            assert np.array_equal(on_host(decoder, picture), by_pillow(file))
    assert messages(caplog, logging.ERROR) == []
    (warning,) = messages(caplog, logging.WARNING)
    assert warning.startswith(
        "no room on the device for pictures of JPEG files, libjpeg-turbo decodes them on the host"
    )
    device.room = None
    (picture,) = decoder.decode([COLOR])
    assert np.array_equal(on_device(decoder, picture), by_pillow(COLOR))


def test_a_device_without_any_room_is_used_once_it_has_some(device, monkeypatch):
    monkeypatch.setattr(dali_jpeg, "GpuPlace", StandIn)
    device.room = 0
    decoder = DaliDecoder("mixed", on=device)
    device.room = None
    on_device(decoder, decoder.decode([COLOR])[0])


@pytest.mark.parametrize("verbs", range(9))
def test_when_the_device_is_lost_nothing_else_is(decoder, device, caplog, verbs):
    caplog.set_level("INFO")
    device.fails_after = verbs
    files = WHOLE * 40
    for file, picture in zip(files, decoder.decode(files), strict=True):
        if isinstance(picture, np.ndarray):
            assert np.array_equal(on_host(decoder, picture), by_pillow(file))
        else:  # from a batch before
            assert picture.shape == by_pillow(file).shape
    decoder.decode(files)
    (error,) = messages(caplog, logging.ERROR)
    assert error.startswith(f"{decoder.name} fails on every file, libjpeg-turbo decodes all from now on: cuda")
    asked = device.verbs
    assert all(isinstance(picture, np.ndarray) for picture in decoder.decode(files))
    assert device.verbs == asked


def test_when_dali_is_lost_nothing_else_is(decoder, caplog):
    decoder.decode(WHOLE)
    decoder._pipelines.close()
    decoder._place.number = NO_SUCH_DEVICE  # so DALI raises CUDA's errors
    for _ in range(2):
        for file, picture in zip(WHOLE, decoder.decode(WHOLE), strict=True):
            assert np.array_equal(on_host(decoder, picture), by_pillow(file))
    assert len(messages(caplog, logging.ERROR)) == 1


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(WHOLE), st.floats(0, 1), st.binary(min_size=1, max_size=12), st.booleans())
def test_a_damaged_file_gives_what_libjpeg_turbo_gives_or_a_picture(decoder, file, where, damage, insert):
    at = 2 + int(where * (len(file) - 2))
    damaged = file[:at] + damage + file[at if insert else at + len(damage) :]
    (picture, whole), (other,) = decoder.decode([damaged, COLOR]), TURBO.decode([damaged])
    if not isinstance(other, DecodeError):
        content = on_device(decoder, picture) if isinstance(picture, DeviceArray) else on_host(decoder, picture)
        assert np.array_equal(content, other)
    elif isinstance(picture, DecodeError):
        assert str(picture) == str(other)
    assert np.array_equal(on_device(decoder, whole), by_pillow(COLOR))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_decodes_on_the_host_and_exits():
    code = """
import os, sys, numpy as np
from tests.kernels.decode.test_jpeg_mixed import COLOR, CpuDevice, DaliDecoder, DeviceArray, StandIn, dali_jpeg
dali_jpeg.GpuPlace = StandIn
decoder = DaliDecoder("mixed", on=CpuDevice())
child = os.fork()
(picture,) = decoder.decode([COLOR])
if not child:
    sys.exit(not isinstance(picture, np.ndarray))
print(os.waitpid(child, 0)[1], isinstance(picture, DeviceArray))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout == "0 True\n", result.stderr


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("load", [None, 0.0, 1.0])
def test_dalis_gpu_operator_takes_our_options(components, load):
    place = GpuPlace(CpuDevice(), load)
    DaliPipelines(place, 2).define(components)
    place.options["bogus"] = 1
    with pytest.raises(KeyError, match="bogus"):
        DaliPipelines(place, 2).define(components)


def test_the_hardware_decoders_share_is_passed_on_and_checked():
    assert GpuPlace(CpuDevice(), 0.25).options["hw_decoder_load"] == 0.25
    assert "hw_decoder_load" not in GpuPlace(CpuDevice(), None).options
    for load in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"hw_decoder_load must be in 0 \.\.\. 1, not"):
            DaliDecoder("mixed", on=CpuDevice(), hw_decoder_load=load)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="DALI's device must be 'cpu' or 'mixed', not 'gpu'"):
        DaliDecoder("gpu")


def test_auto_takes_the_device_where_dali_works_there(device, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(dali_jpeg, "GpuPlace", StandIn)
    decoder = select_jpeg_decoder("auto", device)
    assert decoder.name.startswith("dali-mixed 2.")
    assert messages(caplog, logging.INFO) == [f"JPEG decoder: {decoder.name}"]
    assert select_jpeg_decoder("dali", device).name == decoder.name
    assert isinstance(select_jpeg_decoder("turbo", device), TurboDecoder)


def test_auto_takes_the_host_where_dali_cannot_use_the_device(caplog):
    caplog.set_level("INFO")
    device = CpuDevice(number=NO_SUCH_DEVICE)
    decoder = select_jpeg_decoder("auto", device)
    assert isinstance(decoder, TurboDecoder)
    assert f"JPEG files are not decoded on {device.name}: JPEG decoder 'dali' on a GPU needs" in caplog.text
    assert isinstance(decoder.decode([COLOR])[0], np.ndarray)
    with pytest.raises(DecoderUnavailableError, match="JPEG decoder 'dali' on a GPU needs NVIDIA DALI and CUDA: "):
        select_jpeg_decoder("dali", device)


@pytest.fixture(scope="module")
def mixed():
    try:
        return DaliDecoder("mixed")
    except DecoderUnavailableError as e:
        pytest.skip(str(e))


def close(picture, file):
    """Whether a picture of nvJPEG's is within the tolerance that DaliDecoder states."""
    (exact,) = TURBO.decode([file])
    off = np.abs(picture.host().astype(np.int16) - exact)
    return off.max() <= dali_jpeg.MOST_OFF and off.mean() <= dali_jpeg.MEAN_OFF


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_blocks": 3}], ids=str)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_on_a_gpu_pictures_are_libjpeg_turbos_within_the_tolerance(mixed, options, subsampling):
    sizes = [(1, 1), (15, 17), (16, 16), (203, 301), (512, 512)]
    files = [encoded(PHOTO[:h, :w], subsampling=subsampling, **options) for h, w in sizes]
    files += [encoded(PHOTO[:h, :w, 0], **options) for h, w in sizes]
    for file, picture in zip(files, mixed.decode(files), strict=True):
        assert isinstance(picture, DeviceArray)
        assert picture.shape == read_header(file).shape
        assert close(picture, file)


@pytest.mark.gpu
@pytest.mark.parametrize("orientation", range(1, 9))
def test_on_a_gpu_exif_orientation_is_applied(mixed, orientation):
    for image in (PHOTO[:40, :70], PHOTO[:40, :70, 1]):
        file = encoded(image, exif=oriented(orientation))
        (picture,) = mixed.decode([file])
        assert close(picture, file)


@pytest.mark.gpu
@pytest.mark.parametrize("load", [0.0, 0.5, 1.0])
def test_on_a_gpu_one_bad_file_in_a_batch_of_128_costs_only_itself(mixed, load):
    decoder = DaliDecoder("mixed", on=mixed._place._device, hw_decoder_load=load)
    files = [encoded(PHOTO[: 200 + i, : 300 - i]) for i in range(128)]
    files[64] = UNQUANTIZED
    for _ in range(2):
        results = decoder.decode(files)
        assert isinstance(results.pop(64), DecodeError)
        for file, picture in zip(files[:64] + files[65:], results, strict=True):
            assert isinstance(picture, DeviceArray)
            assert close(picture, file)
