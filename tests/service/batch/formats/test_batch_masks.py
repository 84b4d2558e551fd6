"""Class ids and depths in shards, in the files that tools write: palettes, 1 bit, TIFF; a video written to a pipe."""

import io

import av
import numpy as np
import pytest
from PIL import Image
from tests.support.shards import encoded, write
from tests.support.videos import PANNED, packed

import lumatile as lt
from lumatile_service.batch import ingest

IDS = np.random.default_rng(5).integers(0, 9, (12, 20), np.uint8)


def logged(tmp_path, name, content, entity):
    write(tmp_path / "d/0.tar", [(f"0.{name}", content)])
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert summary.errors == {}
    return lt.open_store(tmp_path / "store").recording().latest_at(entity, sample=0)


def palette(ids):
    image = Image.fromarray(ids, "P")
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768, np.uint8).tobytes())
    return image


def content_of(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"bits": 4}])
@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
def test_indices_of_a_palette_are_class_ids(tmp_path, suffix, options):
    kind = "tiff" if suffix == "tif" else suffix
    frame = logged(tmp_path, f"seg.{suffix}", content_of(palette(IDS), kind, **options), "seg")
    np.testing.assert_array_equal(frame.ids(), IDS)
    assert frame.kind == "segmentation"


def test_a_mask_of_1_bit_is_0_and_1(tmp_path):
    mask = IDS > 4
    frame = logged(tmp_path, "mask.png", content_of(Image.fromarray(mask), "png"), "mask")
    np.testing.assert_array_equal(frame.ids(), mask)


def test_a_palette_of_1_bit_is_0_and_1(tmp_path):
    mask = (IDS > 4).astype(np.uint8)
    frame = logged(tmp_path, "mask.png", content_of(palette(mask), "png", bits=1), "mask")
    np.testing.assert_array_equal(frame.ids(), mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", ["tif", "pgm"])
def test_gray_files_are_class_ids(tmp_path, suffix, dtype):
    ids = IDS.astype(dtype) * (1 if dtype == np.uint8 else 300)
    frame = logged(tmp_path, f"label.{suffix}", encoded(ids, "tiff" if suffix == "tif" else "ppm"), "label")
    np.testing.assert_array_equal(frame.ids(), ids)


@pytest.mark.parametrize(("array", "metres"), [(IDS.astype(np.uint16) * 500, 0.5), (IDS.astype(np.float32), 1)])
def test_depth_of_tiff_is_millimetres_or_metres(tmp_path, array, metres):
    frame = logged(tmp_path, "depth.tif", encoded(array, "tiff"), "depth")
    assert frame.kind == "depth"
    np.testing.assert_allclose(frame.depth(), IDS * np.float32(metres), rtol=1e-6)


def test_a_mask_in_colors_is_an_error_row_that_names_the_rule(tmp_path):
    colors = np.zeros((4, 4, 3), np.uint8)
    write(tmp_path / "d/0.tar", [("0.seg.png", encoded(colors, "png")), ("1.seg.tif", encoded(colors, "tiff"))])
    reasons = sorted(ingest(tmp_path / "d", tmp_path / "store").errors)
    assert "class ids must be gray or indices of a palette, not RGB" in reasons[0]
    assert "it must be a gray PNG of 8 or 16 bits" in reasons[1]


class Pipe(io.RawIOBase):
    """A file that only takes bytes, one after another."""

    def __init__(self):
        super().__init__()
        self.content = b""

    def writable(self):
        return True

    def write(self, part):
        self.content += bytes(part)
        return len(part)


def test_an_avi_written_to_a_pipe_is_whole(tmp_path):
    pipe = Pipe()
    with av.open(pipe, "w", format="avi") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = PANNED[0].shape[1], PANNED[0].shape[0], "bgr0"
        for each in PANNED:
            out.mux(stream.encode(packed("rgb24", each).reformat(format="bgr0")))
        out.mux(stream.encode())
    assert pipe.content[4:8] in (b"\0\0\0\0", b"\xff\xff\xff\xff"), "the size is not known when it begins"
    (tmp_path / "a.avi").write_bytes(pipe.content)
    summary = ingest(tmp_path / "a.avi", tmp_path / "store")
    assert (summary.logged, summary.errors) == (len(PANNED), {})
    np.testing.assert_array_equal(
        lt.open_store(tmp_path / "store").recording().latest_at("a", frame=11).source(), PANNED[11]
    )
