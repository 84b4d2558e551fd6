"""COCO: images and masks of all kinds, against pycocotools' own decode."""

import json
import pickle
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask
from skimage import data
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import InvalidValueError
from lumatile.read.verify import verify
from lumatile_service.batch import SourceFiles, ingest
from lumatile_service.batch.formats.coco.masks import paint
from lumatile_service.batch.formats.coco.reader import read
from lumatile_service.cli.app import app

CAT, FLOWER = data.cat(), load_sample_images().images[1]

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools with numpy 2
    pytest.mark.filterwarnings("ignore::lumatile.LumatileWarning"),  # a split whose images are not here
]


def recording_of(store, summary):
    return lt.open_store(store).recording(summary.recording_id)


def uncompressed(pixels):
    """The counts of an RLE, by hand."""
    flat = np.concatenate([[0], pixels.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat))
    return np.diff([0, *edges.tolist()]).tolist()


COINS = data.coins()[:300, :384] > 120
"""A real mask of many pieces, (300, 384), the size of CAT's left part."""

CAT_CATEGORY = {"id": 17, "name": "cat", "supercategory": "animal"}

POLYGON = [[60.5, 40.25, 150.0, 35.0, 170.75, 120.5, 90.0, 160.0], [200.0, 200.0, 260.5, 210.0, 230.0, 280.75]]
SMALL = [[100.0, 60.0, 130.0, 60.0, 130.0, 90.0, 100.0, 90.0]]


@pytest.fixture
def coco(tmp_path):
    """Two splits, the images of one are not here. Image 139: all kinds of masks; 285: a box; 724: none."""
    root = tmp_path / "coco"
    for directory in ("annotations", "val2017"):
        (root / directory).mkdir(parents=True)
    pictures = {139: CAT[:300, :384], 285: FLOWER, 724: data.coffee()}
    for number, pixels in pictures.items():
        Image.fromarray(pixels).save(root / f"val2017/{number:012d}.jpg")
    compressed = mask.encode(np.asfortranarray(COINS[:, ::-1].astype(np.uint8)))["counts"].decode()
    crowd = {"size": [300, 384], "counts": uncompressed(COINS)}
    mirrored = {"size": [300, 384], "counts": compressed}
    annotations = [
        {"id": 1, "image_id": 139, "category_id": 17, "iscrowd": 0, "segmentation": SMALL, "area": 900.0},
        {"id": 2, "image_id": 139, "category_id": 90, "iscrowd": 0, "segmentation": POLYGON, "area": 10000.0},
        {"id": 3, "image_id": 139, "category_id": 1, "iscrowd": 1, "segmentation": crowd},
        {"id": 4, "image_id": 139, "category_id": 3, "iscrowd": 1, "segmentation": mirrored},
        {"id": 5, "image_id": 285, "category_id": 3, "bbox": [10.5, 20.25, 100.0, 50.5], "iscrowd": 0},
        {"id": 6, "image_id": 285, "category_id": 1, "bbox": [50, 40, 200, 150], "segmentation": [], "iscrowd": 0},
    ]
    document = {
        "info": {"year": 2017},
        "images": [
            {"id": n, "file_name": f"{n:012d}.jpg", "height": p.shape[0], "width": p.shape[1]}
            for n, p in pictures.items()
        ],
        "annotations": annotations,
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 3, "name": "car"},
            CAT_CATEGORY,
            {"id": 90, "name": "brush"},
        ],
    }
    (root / "annotations/instances_val2017.json").write_text(json.dumps(document))
    gone = {**document, "images": [{**each, "file_name": "gone.jpg"} for each in document["images"]]}
    (root / "annotations/instances_train2017.json").write_text(json.dumps(gone))
    (root / "annotations/captions_val2017.json").write_text("{}")
    return root


def masks_by_pycocotools(annotations, height, width):
    """(n, height, width): as its COCO.annToMask does it, and boxes."""
    decoded = []
    for each in annotations:
        segmentation = each.get("segmentation")
        if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
            encoded = segmentation
        elif isinstance(segmentation, dict):
            encoded = mask.frPyObjects(segmentation, height, width)
        elif segmentation:
            encoded = mask.merge(mask.frPyObjects(segmentation, height, width))
        else:
            encoded = mask.frPyObjects(np.array([each["bbox"]], float), height, width)[0]
        decoded.append(mask.decode(encoded))
    return np.array(decoded, bool).reshape(-1, height, width)


def painted(masks, values):
    expected = np.zeros(masks.shape[1:], int)
    for i in np.argsort(-masks.sum((1, 2)), kind="stable"):
        expected[masks[i]] = values[i]
    return expected


def ingest_coco(root, store):
    with pytest.warns(lt.LumatileWarning, match="instances_train2017.json is left out: none of its images are in"):
        return ingest(root, store)


def test_coco(tmp_path, coco):
    summary = ingest_coco(coco, tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("coco", 2 + 3 * 3, {})
    recording = recording_of(tmp_path / "store", summary)
    assert recording.entities() == ["val2017", "val2017/categories", "val2017/instances"]
    document = json.loads((coco / "annotations/instances_val2017.json").read_text())
    for image in document["images"]:
        number, height, width = image["id"], image["height"], image["width"]
        frame = recording.latest_at("val2017", image=number)
        assert frame.source() == (coco / "val2017" / image["file_name"]).read_bytes()
        annotations = [each for each in document["annotations"] if each["image_id"] == number]
        masks = masks_by_pycocotools(annotations, height, width)
        categories = recording.latest_at("val2017/categories", image=number)
        instances = recording.latest_at("val2017/instances", image=number)
        assert (categories.times["image"], instances.times["image"]) == (number, number)
        assert categories.source().dtype == instances.source().dtype == np.uint8
        expected = painted(masks, [each["category_id"] for each in annotations])
        np.testing.assert_array_equal(categories.source(), expected)
        np.testing.assert_array_equal(instances.source(), painted(masks, range(1, len(masks) + 1)))
        for segmentation in (categories, instances):
            assert segmentation.provenance["uri"] == (coco / "annotations/instances_val2017.json").as_uri()
            assert segmentation.provenance["member"] == f"image_id={number}"
    assert set(np.unique(recording.latest_at("val2017/instances", image=139).source())) == {0, 1, 2, 3, 4}
    assert verify(tmp_path / "store").ok


def test_coco_names_color_categories_and_not_instances(tmp_path, coco):
    recording = recording_of(tmp_path / "store", ingest_coco(coco, tmp_path / "store"))
    (context,) = (f.annotation_context() for f in recording.frames("val2017") if f.kind == "annotation_context")
    names = {1: "person", 3: "car", 17: "cat", 90: "brush"}
    assert {number: each.info.label for number, each in context.classes.items()} == names
    frame = recording.latest_at("val2017/categories", image=139)
    np.testing.assert_array_equal(frame.colors(), context.palette(256)[frame.ids()])
    (own,) = (f for f in recording.frames("val2017/instances") if f.kind == "annotation_context")
    assert own.annotation_context().classes == {}


def test_coco_run_again_logs_a_changed_annotation_only(tmp_path, coco):
    store = tmp_path / "store"
    ingest_coco(coco, store)
    again = ingest_coco(coco, store)
    assert (again.logged, again.stored_before, again.bytes_out) == (0, 11, 0)
    path = coco / "annotations/instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"][4]["bbox"][0] = 30
    path.write_text(json.dumps(document, indent=1))
    third = ingest_coco(coco, store)
    assert (third.logged, third.changed, third.stored_before) == (2, 2, 9), "categories and instances of one image"
    masks = masks_by_pycocotools(document["annotations"][4:], *FLOWER.shape[:2])
    frame = recording_of(store, third).latest_at("val2017/categories", image=285)
    np.testing.assert_array_equal(frame.source(), painted(masks, [3, 1]))


BROKEN = {
    "a polygon must be at least three pairs": {"segmentation": [[1, 2, 3, 4]]},
    "a polygon must be at least three pairs x, y, not \\[1, 2": {"segmentation": [[1, 2, 3, 4, 5, 6, 7]]},
    "coordinates must be within -640 to 1280, not 10000": {"segmentation": [[1, 2, 1e9, 4, 5, 6]]},
    "coordinates must be within -427 to 854, not nan": {"segmentation": [[1, float("nan"), 3, 4, 5, 6]]},
    "must have a bbox x, y, width, height, not None": {},
    "an RLE must be of the picture's size": {"segmentation": {"size": [2, 2], "counts": [4]}},
    "counts must not be negative, and be 273280 together": {"segmentation": {"size": [427, 640], "counts": [5, 7]}},
    "counts of a compressed RLE are broken": {"segmentation": {"size": [427, 640], "counts": "5 7"}},
    "counts of a compressed RLE are cut off": {"segmentation": {"size": [427, 640], "counts": "5h"}},
    "counts must be integers or a string": {"segmentation": {"size": [427, 640], "counts": None}},
    "a segmentation must be polygons or an RLE": {"segmentation": "x"},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_annotation_is_refused(reason):
    with pytest.raises(InvalidValueError, match=f"annotation 7: .*{reason}"):
        paint([{"id": 7, **BROKEN[reason]}], [1], 427, 640, "uint8")


def test_any_mask_is_painted_as_pycocotools_decodes_it():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = rng.integers(1, 60, 2).tolist()
        kind = rng.integers(4)
        if kind < 2:
            pixels = rng.random((height, width)) < rng.choice([0, 0.02, 0.5, 0.98, 1])
            encoded = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
            counts = encoded["counts"].decode() if kind else uncompressed(pixels)
            segmentation = {"size": [height, width], "counts": counts}
        elif kind == 2:
            points = rng.uniform(-0.5, 1.5, (rng.integers(1, 4), rng.integers(3, 9), 2)) * [width, height]
            segmentation = points.reshape(len(points), -1).tolist()
        else:
            segmentation = []
        box = [*(rng.random(2) * [width, height]).tolist(), *(rng.random(2) * [width, height]).tolist()]
        annotation = {"id": 1, "segmentation": segmentation, "bbox": box}
        (expected,) = masks_by_pycocotools([annotation], height, width)
        np.testing.assert_array_equal(paint([annotation], [1], height, width, "uint8"), expected)


def test_coco_bad_values_are_error_rows(tmp_path, coco):
    path = coco / "annotations/instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"][4]["bbox"] = None
    document["images"][2]["height"] = 10**9
    document["images"].append({"id": 800, "file_name": "../../photo.jpg", "height": 4, "width": 4})
    shutil.copy(coco / "val2017/000000000285.jpg", tmp_path / "photo.jpg")
    path.write_text(json.dumps(document))
    (coco / "annotations/instances_train2017.json").write_text("{")
    (coco / "val2017/000000000139.jpg").write_bytes(b"\xff\xd8\xff nothing")
    summary = ingest(coco, tmp_path / "store")
    assert summary.values == 1 + 2 + 4 * 3
    assert sum(summary.errors.values()) == 7
    recording = recording_of(tmp_path / "store", summary)
    assert any("there is no file val2017/../../photo.jpg" in reason for reason in summary.errors)
    assert "instances_train2017.json is not a COCO file" in recording.frames("train2017")[0].error
    assert recording.latest_at("val2017/categories", image=139).times["image"] == 139
    errors = {f.times["image"]: f.error for f in recording.frames("val2017/instances") if f.error}
    assert "annotation 5: an annotation without segmentation must have a bbox" in errors[285]
    assert "pixels are more than the limit" in errors[724]
    np.testing.assert_array_equal(recording.latest_at("val2017/instances", image=800).source(), np.zeros((4, 4)))


@pytest.mark.parametrize("directory", ["images/val2017", "images", "."])
def test_coco_images_in_other_places(tmp_path, coco, directory):
    (coco / directory).mkdir(parents=True, exist_ok=True)
    for path in (coco / "val2017").iterdir():
        path.rename(coco / directory / path.name)
    (coco / "val2017").rmdir()
    recording = recording_of(tmp_path / "store", ingest_coco(coco, tmp_path / "store"))
    entity = "coco" if directory == "." else directory
    assert recording.entities() == [entity, f"{entity}/categories", f"{entity}/instances"]


def test_coco_wide_ids_and_splits_that_share_a_directory(tmp_path, coco):
    document = json.loads((coco / "annotations/instances_val2017.json").read_text())
    shutil.rmtree(coco / "annotations")
    (coco / "annotations").mkdir()
    document["annotations"][4]["category_id"] = 300
    document["categories"].append({"id": 300, "name": "lamp"})
    for name in ("train", "val"):
        (coco / f"annotations/{name}.json").write_text(json.dumps(document))
    (coco / "val2017").rename(coco / "images")
    summary = ingest(coco, tmp_path / "store")
    assert (summary.format, summary.values, summary.errors) == ("coco", 22, {})
    recording = recording_of(tmp_path / "store", summary)
    for name in ("train", "val"):
        frame = recording.latest_at(f"images/{name}/categories", image=285)
        assert frame.source().dtype == np.uint16
        assert set(np.unique(frame.source())) == {0, 1, 300}


def test_coco_without_pycocotools_or_images_says_so(tmp_path, coco, monkeypatch):
    shutil.rmtree(coco / "val2017")
    with pytest.raises(InvalidValueError, match="no annotations of images"):
        read(SourceFiles(coco))
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InvalidValueError, match=r"need pycocotools: install lumatile\[batch\]"):
        read(SourceFiles(coco))


def test_coco_calls_can_be_pickled(coco):
    calls = read(SourceFiles(coco))
    assert [call.read() for call in pickle.loads(pickle.dumps(calls))] == [call.read() for call in calls]


def test_coco_by_the_command(tmp_path, coco):
    command = ["ingest", str(coco), "--store", str(tmp_path / "store")]
    planned = json.loads(CliRunner().invoke(app, [*command, "--dry-run", "--json"]).stdout)
    with pytest.warns(lt.LumatileWarning, match="is left out"):
        done = CliRunner().invoke(app, [*command, "--json"])
    summary = json.loads(done.stdout)
    assert (done.exit_code, summary["format"], summary["logged"], planned["values"]) == (0, "coco", 11, 11)
    assert all(group["bytes_out"] > 0 for group in planned["groups"] if group["kind"] == "segmentation")
    with pytest.warns(lt.LumatileWarning, match="is left out"):
        again = CliRunner().invoke(app, [*command, "--format", "coco"])
    assert "0 of 11 values logged" in again.stdout
