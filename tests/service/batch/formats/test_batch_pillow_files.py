"""Pillow's own test images, many of them broken on purpose: each is stored as Pillow decodes it, or is an error row."""

import io
import subprocess
import sys
import tarfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps
from skimage import data

import lumatile as lt
from lumatile.errors import ImageFileError
from lumatile.read.verify import verify
from lumatile_service.batch import LogCall, ingest
from lumatile_service.batch.formats.contents import image_file, pillow_image
from lumatile_service.batch.source_files import SourceFiles

NOT_UPRIGHT = {"exif_imagemagick_orientation.png", "xmp_tags_orientation.png", "xmp_tags_orientation_exiftool.png"}
"""Pillow turns a PNG by XMP and by ImageMagick's text too; here only the eXIf chunk counts."""

REFUSED_BY_PILLOW = {"apng/chunk_no_fctl.png", "png_decompression_dos.png"}
"""For what is around the still picture, which is whole."""


@pytest.fixture(scope="session")
def images(request, tmp_path_factory):
    """The directory of Pillow's test images, from the source distribution of the version that is installed."""
    kept = Path(request.config.cache.mkdir("pillow"))
    if not (found := list(kept.glob(f"*-{PIL.__version__}.tar.gz"))):
        script = Path(__file__).parents[3] / "support" / "pillow_sdist.py"
        command = [sys.executable, script, PIL.__version__, kept]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
        if done.returncode == 2:
            pytest.skip(done.stderr.strip().splitlines()[-1])
        assert done.returncode == 0, done.stderr
        found = list(kept.glob(f"*-{PIL.__version__}.tar.gz"))
    root = tmp_path_factory.mktemp("pillow")
    with tarfile.open(found[0]) as archive:
        inside = [member for member in archive if member.isfile() and "/Tests/images/" in member.name]
        archive.extractall(root, inside, filter="data")
    (directory,) = root.glob("*/Tests/images")
    return directory


def every_file(files):
    """Reader: each file is an image, whatever it is called."""
    for path in files.sizes:
        yield LogCall(
            entity_path="file",
            kind="image",
            uri=files.uri(path),
            member=path,
            read=partial(files.read, path),
            log=image_file,
        )


def by_pillow(content):
    """What Pillow decodes: gray, RGB or RGBA; None where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content)) as opened:
                picture = ImageOps.exif_transpose(opened)
                if picture.mode in ("F", "I") or picture.mode.startswith("I;16"):
                    return np.asarray(picture)
                if picture.has_transparency_data:
                    return np.asarray(picture.convert("RGBA"))
                return np.asarray(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))
        except Exception:  # noqa: BLE001 - Pillow raises many kinds
            return None


def without_fourth(picture):
    """As (h, w, 3): what pictures with and without an opaque alpha, gray and RGB, have in common."""
    picture = picture if picture.ndim == 3 else picture[..., None]
    return picture[..., :3] if picture.shape[2] >= 3 else picture.repeat(3, 2)


def test_every_file_is_stored_as_pillow_decodes_it_or_is_an_error_row(tmp_path, images):
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        summary = ingest(
            images,
            tmp_path / "store",
            reader="tests.service.batch.formats.test_batch_pillow_files:every_file",
            tile_format="srgb8",
        )
    assert not escaped
    paths = list(SourceFiles(images).sizes)
    assert summary.values == summary.logged == len(paths) > 700
    assert verify(tmp_path / "store").ok
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    frames = {frame.provenance["member"]: frame for frame in recording.frames("file")}
    assert sorted(frames) == sorted(paths)
    equal, refused = 0, []
    for path, frame in frames.items():
        expected = by_pillow((images / path).read_bytes())
        if frame.error:
            if expected is not None:
                refused.append(path)
            continue
        if path in NOT_UPRIGHT | REFUSED_BY_PILLOW:
            continue
        assert expected is not None, f"{path}: Pillow refuses it"
        source = frame.source()
        if isinstance(source, bytes):  # JPEG: both decode with libjpeg-turbo
            source, expected = frame.to_rgba8()[..., :3], without_fourth(expected)
        elif source.dtype == np.uint16 and expected.dtype == np.uint8:
            source = source >> 8  # 16 bits of PNG, of which Pillow gives 8
        if source.ndim == 3 and source.shape[2] == 4 and expected.ndim == 3 and expected.shape[2] == 4:
            np.testing.assert_array_equal(source, expected, err_msg=path)
        np.testing.assert_array_equal(without_fourth(source), without_fourth(expected), err_msg=path)
        equal += 1
    assert equal > 600
    assert len(refused) < 0.02 * equal, refused


def test_integers_of_images_are_not_cut_off_at_white(tmp_path):
    numbers = np.array([[0, 255], [256, 65535]], np.int32)
    for name, array in (("a.tiff", numbers), ("b.tiff", numbers.astype(">u2"))):
        content = io.BytesIO()
        Image.fromarray(array).save(content, "tiff")
        stored = pillow_image(content.getvalue(), 100)
        assert stored.dtype == np.uint16, name
        np.testing.assert_array_equal(stored, numbers)
    content = io.BytesIO()
    Image.fromarray(numbers - 1).save(content, "tiff")
    with pytest.raises(ImageFileError, match="must be 0 to 65535, not -1 to 65534"):
        pillow_image(content.getvalue(), 100)


def test_only_what_is_transparent_has_alpha():
    opaque = Image.fromarray(data.cat()[:8, :8]).quantize(16)
    for options, channels in (({}, 3), ({"transparency": 3}, 4)):
        content = io.BytesIO()
        opaque.save(content, "gif", **options)
        assert pillow_image(content.getvalue(), 100).shape == (8, 8, channels)


def test_eps_is_never_run(monkeypatch):
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "eps")
    called = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **_: called.append(args))
    with pytest.raises(ImageFileError, match="EPS is a program"):
        pillow_image(content.getvalue(), 100)
    assert not called
