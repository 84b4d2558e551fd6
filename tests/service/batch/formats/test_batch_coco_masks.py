"""COCO's masks next to their images: category 0, turned photos, paths as tools write them, errors that name images."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps
from skimage import data

import lumatile as lt
from lumatile.errors import LumatileWarning
from lumatile_service.batch import ingest

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools

PIXELS = data.cat()[:40, :100]
"""A real picture, (40, 100, 3)."""

BOX = [10, 5, 30, 20]


def dataset(root, images, annotations, categories):
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/instances_val.json").write_text(json.dumps(document))


def covered():
    """The pixels of BOX in an image of (40, 100)."""
    mask = np.zeros((40, 100), bool)
    mask[5:25, 10:40] = True
    return mask


def test_coco_category_0_differs_from_the_background(tmp_path):
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 0, "bbox": BOX},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [60, 5, 10, 10]},
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 40}]
    dataset(tmp_path / "d", images, annotations, [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}])
    Image.fromarray(PIXELS).save(tmp_path / "d/val/a.png")
    with pytest.warns(
        LumatileWarning, match=r"the id 0, which is the background's here: class ids are category ids \+ 1"
    ):
        ingest(tmp_path / "d", tmp_path / "store")
    recording = lt.open_store(tmp_path / "store").recording()
    frame = recording.latest_at("val/categories", image=1)
    expected = covered().astype(np.uint8)
    expected[5:15, 60:70] = 2
    np.testing.assert_array_equal(frame.source(), expected)
    (context,) = (f.annotation_context() for f in recording.frames("val") if f.kind == "annotation_context")
    assert {number: each.info.label for number, each in context.classes.items()} == {1: "cat", 2: "dog"}
    assert frame.colors()[expected == 0].max() == 0, "the background is transparent"


def test_coco_255_categories_from_0_need_16_bits(tmp_path):
    annotations = [{"id": 1, "image_id": 1, "category_id": number, "bbox": BOX} for number in (0, 255)]
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 40}]
    dataset(tmp_path / "d", images, annotations, [{"id": i, "name": f"c{i}"} for i in range(256)])
    Image.fromarray(PIXELS).save(tmp_path / "d/val/a.png")
    with pytest.warns(LumatileWarning, match="the id 0"):
        ingest(tmp_path / "d", tmp_path / "store")
    ids = lt.open_store(tmp_path / "store").recording().latest_at("val/categories", image=1).source()
    assert (ids.dtype, ids.max()) == (np.uint16, 256)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_coco_masks_are_turned_with_an_image_that_its_exif_turns(tmp_path, suffix, orientation):
    """The mask lies on the same pixels as before, whatever the file's format."""
    marked = PIXELS.copy()
    marked[covered()] = 255
    marked[~covered()] //= 2
    picture = Image.fromarray(marked)
    exif = Image.Exif()
    exif[0x0112] = orientation
    images = [{"id": 1, "file_name": f"a.{suffix}", "width": 100, "height": 40}]
    annotations = [{"id": 1, "image_id": 1, "category_id": 3, "bbox": BOX}]
    dataset(tmp_path / "d", images, annotations, [{"id": 3, "name": "cat"}])
    picture.save(tmp_path / f"d/val/a.{suffix}", exif=exif)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert not summary.errors
    recording = lt.open_store(tmp_path / "store").recording()
    stored = Image.fromarray(covered().astype(np.uint8))
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored)) * 3
    mask = recording.latest_at("val/categories", image=1).source()
    np.testing.assert_array_equal(mask, expected)
    image = recording.latest_at("val", image=1)
    assert image.shape[:2] == mask.shape
    light = image.image()[:, :, 0]
    assert light[mask == 3].min() > 0.4 > light[mask == 0].mean()


def test_coco_masks_of_the_upright_picture_are_not_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    images = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 100}]
    annotations = [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [5, 10, 20, 30]}]
    dataset(tmp_path / "d", images, annotations, [{"id": 3, "name": "cat"}])
    Image.fromarray(PIXELS).save(tmp_path / "d/val/a.jpg", exif=exif)
    ingest(tmp_path / "d", tmp_path / "store")
    frame = lt.open_store(tmp_path / "store").recording().latest_at("val/instances", image=1)
    np.testing.assert_array_equal(frame.source(), covered().T)


@pytest.mark.parametrize("file_name", ["./a.png", "b/../a.png", ".\\a.png", "../val/a.png"])
def test_coco_file_names_are_taken_as_tools_write_them(tmp_path, file_name):
    images = [{"id": 1, "file_name": file_name, "width": 100, "height": 40}]
    dataset(tmp_path / "d", images, [], [])
    Image.fromarray(PIXELS).save(tmp_path / "d/val/a.png")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert not summary.errors
    frame = lt.open_store(tmp_path / "store").recording().latest_at("val", image=1)
    np.testing.assert_array_equal(frame.source(), PIXELS)
    assert frame.provenance["uri"] == (tmp_path / "d/val/a.png").as_uri()


def test_coco_an_error_of_masks_names_the_image(tmp_path):
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 40}]
    dataset(tmp_path / "d", images, [{"id": 7, "image_id": 1, "category_id": 3, "segmentation": [[1, 2]]}], [])
    Image.fromarray(PIXELS).save(tmp_path / "d/val/a.png")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    (reason,) = summary.errors
    assert "the masks of val/a.png: annotation 7: a polygon must be" in reason
