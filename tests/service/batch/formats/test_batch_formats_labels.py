"""Cityscapes and ScanNet with real pixels; which format each layout is taken for."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from skimage import data
from typer.testing import CliRunner

import lumatile as lt
from lumatile.read.verify import verify
from lumatile_service.batch import SourceFiles, ingest
from lumatile_service.batch.formats import FORMATS
from lumatile_service.batch.formats.cityscapes import LABELS, LABELS_URI
from lumatile_service.cli.app import app


def recording_of(store, summary):
    return lt.open_store(store).recording(summary.recording_id)


def png(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


LEFT, RIGHT, DISPARITY = data.stereo_motorcycle()


@pytest.fixture
def cityscapes(tmp_path):
    """Two frames of a sequence and one of another, with all that is read and some that is not."""
    root = tmp_path / "cityscapes"
    classes = data.coins()[:250, :370].astype(np.uint16) // 8
    pixels = np.nan_to_num(DISPARITY, posinf=0)[:250, :370]
    disparity = np.where(pixels > 0, np.round(pixels * 256) + 1, 0).astype(np.uint16)
    disparity[:3] = 1  # nothing is nearer than infinity, and valid
    instances = np.where((classes >= 24) & (classes < 34), classes * 1000 + classes % 7, classes)
    for i, name in enumerate(("aachen_000000_000019", "aachen_000001_000019", "aachen_000001_000020")):
        for type_, values in (
            ("leftImg8bit", LEFT[:250, :370]),
            ("rightImg8bit", RIGHT[:250, :370]),
            ("gtFine_labelIds", classes.astype(np.uint8)),
            ("gtFine_instanceIds", instances),
            ("gtFine_color", LEFT[:250, :370]),
            ("disparity", disparity),
        ):
            path = root / type_.partition("_")[0] / "train" / "aachen" / f"{name}_{type_}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(values, i, 1)).save(path)
        (root / f"gtFine/train/aachen/{name}_gtFine_polygons.json").write_text('{"imgHeight": 250, "objects": []}')
    return root


def test_cityscapes(tmp_path, cityscapes):
    store = tmp_path / "store"
    summary = ingest(cityscapes, store)
    assert (summary.format, summary.values, summary.errors) == ("cityscapes", 1 + 3 * 5, {})
    recording = recording_of(store, summary)
    entities = {
        "left": "leftImg8bit",
        "right": "rightImg8bit",
        "labels": "gtFine_labelIds",
        "instances": "gtFine_instanceIds",
        "disparity": "disparity",
    }
    assert recording.entities() == ["aachen", *sorted(f"aachen/{entity}" for entity in entities)]
    for entity, type_ in entities.items():
        for sequence, number in ((0, 19), (1, 19), (1, 20)):
            name = f"aachen_{sequence:06d}_{number:06d}_{type_}.png"
            stored = png(cityscapes / type_.partition("_")[0] / "train/aachen" / name)
            frame = recording.latest_at(f"aachen/{entity}", image=sequence * 1_000_000 + number)
            np.testing.assert_array_equal(frame.source(), stored)
            assert frame.source().dtype == stored.dtype
            assert (frame.times["frame"], frame.times["sequence"]) == (number, sequence)
            assert frame.provenance["uri"].endswith(name)
    (context,) = (f.annotation_context() for f in recording.frames("aachen"))
    assert {(n, c.info.label, c.info.color) for n, c in context.classes.items()} == {
        (n, label, (*color, 255)) for n, label, color in LABELS
    }
    assert recording.frames("aachen")[0].provenance["uri"] == LABELS_URI
    labels = recording.latest_at("aachen/labels", image=19)
    colors = np.array([color for _, _, color in LABELS], np.uint8)
    np.testing.assert_array_equal(labels.colors()[..., :3], colors[labels.ids()])
    again = ingest(cityscapes, store)
    assert (again.logged, again.stored_before) == (0, 16)
    assert verify(store).ok


def test_cityscapes_disparities_are_the_png_and_exact_in_float32(tmp_path, cityscapes):
    recording = recording_of(tmp_path / "store", ingest(cityscapes, tmp_path / "store"))
    p = recording.latest_at("aachen/disparity", image=19).source()
    assert p.dtype == np.uint16
    pixels = np.nan_to_num(DISPARITY, posinf=0)[:250, :370]
    exact = np.round(pixels * 256) / 256
    disparity = np.where(p > 0, (p.astype(np.float32) - 1) / 256, 0)
    np.testing.assert_array_equal(disparity[3:], exact[3:])
    assert (p[:3] == 1).all()


def test_cityscapes_bad_files_are_error_rows(tmp_path, cityscapes):
    folder = cityscapes / "gtFine/train/aachen"
    Image.fromarray(LEFT[:250, :370]).save(folder / "aachen_000000_000019_gtFine_labelIds.png")
    (folder / "aachen_000001_000019_gtFine_labelIds.png").write_bytes(b"nothing")
    disparity = cityscapes / "disparity/train/aachen/aachen_000001_000020_disparity.png"
    Image.fromarray(data.moon()).save(disparity)
    summary = ingest(cityscapes, tmp_path / "store")
    assert (summary.values, sum(summary.errors.values())) == (16, 3)
    assert any("a disparity PNG must be of 16 bits, not 8" in reason for reason in summary.errors)
    assert any("it must be a gray PNG of 8 or 16 bits, not PNG of 3 x 8 bits" in reason for reason in summary.errors)


@pytest.fixture
def scannet(tmp_path):
    """Two scenes as SensReader exports them, with the labels that are downloaded beside them."""
    root = tmp_path / "scans"
    metres = np.nan_to_num(994.978 * 193.001 / (DISPARITY + 31.086) / 1000)[:240, :320]
    for scene in ("scene0000_00", "scene0001_00"):
        for name in ("color", "depth", "label-filt", "instance-filt", "pose", "intrinsic"):
            (root / scene / name).mkdir(parents=True)
        for i in (0, 9, 10, 100):
            Image.fromarray(np.roll(LEFT, i, 1)).save(root / scene / f"color/{i}.jpg")
            depth = np.roll(np.round(metres * 1000), i, 1).astype(np.uint16)
            Image.fromarray(depth).save(root / scene / f"depth/{i}.png")
            labels = (np.roll(data.coins(), i, 1)[:240, :320] // 20).astype(np.uint16) * 100
            Image.fromarray(labels).save(root / scene / f"label-filt/{i}.png")
            Image.fromarray((labels // 100).astype(np.uint8)).save(root / scene / f"instance-filt/{i}.png")
            np.savetxt(root / scene / f"pose/{i}.txt", np.eye(4), fmt="%f")
        np.savetxt(root / scene / "intrinsic/intrinsic_depth.txt", np.eye(4), fmt="%f")
    return root


def test_scannet(tmp_path, scannet):
    store = tmp_path / "store"
    summary = ingest(scannet, store)
    assert (summary.format, summary.values, summary.errors) == ("scannet", 2 * 4 * 4, {})
    recording = recording_of(store, summary)
    for scene in ("scene0000_00", "scene0001_00"):
        for i in (0, 9, 10, 100):
            color = recording.latest_at(f"{scene}/color", frame=i)
            assert color.source() == (scannet / scene / f"color/{i}.jpg").read_bytes()
            depth = recording.latest_at(f"{scene}/depth", frame=i)
            stored = png(scannet / scene / f"depth/{i}.png").astype(np.uint16)
            np.testing.assert_array_equal(depth.source(), stored)
            np.testing.assert_array_equal(depth.depth(), stored.astype(np.float32) / np.float32(1000))
            for name, dtype in (("label-filt", np.uint16), ("instance-filt", np.uint8)):
                frame = recording.latest_at(f"{scene}/{name}", frame=i)
                np.testing.assert_array_equal(frame.source(), png(scannet / scene / name / f"{i}.png"))
                assert (frame.source().dtype, frame.times["frame"]) == (dtype, i)
    again = ingest(scannet, store)
    assert (again.logged, again.stored_before) == (0, 32)
    assert verify(store).ok


def test_scannet_one_scene_and_bad_files(tmp_path, scannet):
    scene = scannet / "scene0000_00"
    content = (scene / "depth/9.png").read_bytes()
    (scene / "depth/9.png").write_bytes(content[: len(content) // 2])
    (scene / "label-filt/10.png").write_bytes((scene / "color/10.jpg").read_bytes())
    shutil.rmtree(scene / "pose")
    summary = ingest(scene, tmp_path / "store")
    assert (summary.format, summary.values, sum(summary.errors.values())) == ("scannet", 16, 2)
    recording = recording_of(tmp_path / "store", summary)
    assert recording.entities() == ["color", "depth", "instance-filt", "label-filt"]
    assert recording.latest_at("depth", frame=10).times["frame"] == 10


LAYOUTS = {
    "tum-rgbd": [["rgb.txt", "depth.txt", "rgb/1.2.png", "depth/1.3.png"]],
    "kitti": [
        ["image_02/data/0000000000.png", "velodyne_points/data/0000000000.bin"],
        ["training/image_2/000000.png", "training/label_2/000000.txt", "training/velodyne/000000.bin"],
        ["training/image_2/000000_10.png", "training/disp_occ_0/000000_10.png"],
        ["val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000005.png"],
    ],
    "cityscapes": [
        ["leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"],
        ["gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png", "leftImg8bit/a.txt"],
        ["train/aachen/aachen_000000_000019_disparity.png"],
        ["leftImg8bit/demoVideo/stuttgart_00/stuttgart_00_000000_000001_leftImg8bit.png"],
    ],
    "coco": [
        ["annotations/instances_val2017.json", "annotations/captions_val2017.json", "val2017/000000000139.jpg"],
        ["coco/annotations/instances_train2014.json", "coco/train2014/COCO_train2014_000000000009.jpg"],
    ],
    "scannet": [
        ["color/0.jpg", "depth/0.png", "pose/0.txt"],
        ["scans/scene0000_00/color/0.jpg", "scans/scene0000_00/depth/0.png"],
        ["scene0000_00/color/000000.jpg", "scene0000_00/depth/000000.png", "scene0000_00/label/000000.png"],
    ],
    "images": [
        ["cats/a.jpg", "dogs/b.png"],
        ["color/0.jpg", "depth/0.png"],
        ["annotations/captions_val2017.json", "val2017/000000000139.jpg"],
        ["annotations/other.json", "a.jpg"],
    ],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_of_its_own_format_and_of_no_other(tmp_path, name):
    for number, layout in enumerate(LAYOUTS[name]):
        for path in layout:
            (tmp_path / str(number) / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / str(number) / path).touch()
        files = SourceFiles(tmp_path / str(number))
        assert {each for each, known in FORMATS.items() if known.matches(files)} - {"images"} == {name} - {"images"}
        assert FORMATS["images"].matches(files), "which is the last"
    assert list(FORMATS)[-1] == "images"


@pytest.mark.parametrize("format_", ["cityscapes", "scannet"])
def test_the_command(tmp_path, format_, request):
    root, store = request.getfixturevalue(format_), str(tmp_path / "store")
    planned = json.loads(CliRunner().invoke(app, ["ingest", str(root), "--store", store, "--dry-run", "--json"]).stdout)
    done = CliRunner().invoke(app, ["ingest", str(root), "--store", store, "--json"])
    assert done.exit_code == 0
    summary = json.loads(done.stdout)
    assert (summary["format"], summary["logged"]) == (format_, planned["values"])
    again = CliRunner().invoke(app, ["ingest", str(root), "--store", store, "--format", format_])
    assert f"0 of {planned['values']} values logged" in again.stdout
