"""docs/batch.md: the example of each format works as pasted, on a dataset in that layout."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rerun as rr
from PIL import Image
from skimage import data
from tests.support import shards, videos
from typer.testing import CliRunner

import lumatile as lt
from lumatile_service.batch.formats import FORMATS
from lumatile_service.cli.app import app

GUIDE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text()

CAT = data.cat()[:120, :160]
MILLIMETRES = np.where(data.coins()[:120, :160] > 90, data.coins()[:120, :160].astype(np.uint16) * 17, 0)
IDS = (data.coins()[:120, :160] // 32).astype(np.uint8)

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools with numpy 2


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def photos(here):
    for i in range(4):
        save(here / f"photos/cats/{i}.jpg", np.roll(CAT, i, 1))


def desk(here):
    root = here / "rgbd_dataset_freiburg1_desk"
    for name, pixels in (("rgb", CAT), ("depth", MILLIMETRES.astype(np.uint16))):
        for i in range(11):
            save(root / f"{name}/{i}.25.png", np.roll(pixels, i, 1))
        (root / f"{name}.txt").write_text("# a\n# b\n# c\n" + "".join(f"{i}.25 {name}/{i}.25.png\n" for i in range(11)))


def drive(here):
    root = here / "2011_09_26/2011_09_26_drive_0001_sync"
    scan = np.random.default_rng(0).normal(0, 20, (500, 4)).astype("<f4")
    for i in range(2):
        save(root / f"image_02/data/{i:010d}.png", CAT)
        (root / "velodyne_points/data").mkdir(parents=True, exist_ok=True)
        (root / f"velodyne_points/data/{i:010d}.bin").write_bytes(scan.tobytes())
    for name in ("image_02", "velodyne_points"):
        (root / name / "timestamps.txt").write_text("2011-09-26 13:02:25.594360375\n2011-09-26 13:02:25.697\n")


def coco(here):
    save(here / "coco/val2017/000000000139.jpg", CAT)
    document = {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 120, "width": 160}],
        "annotations": [
            {"id": 1, "image_id": 139, "category_id": 17, "iscrowd": 0, "segmentation": [[10, 10, 90, 10, 90, 80]]}
        ],
        "categories": [{"id": 17, "name": "cat"}],
    }
    (here / "coco/annotations").mkdir()
    (here / "coco/annotations/instances_val2017.json").write_text(json.dumps(document))


def streets(here):
    for name, pixels in (("leftImg8bit", CAT), ("gtFine_labelIds", IDS)):
        save(here / f"cityscapes/{name.partition('_')[0]}/train/aachen/aachen_000001_000019_{name}.png", pixels)


def rooms(here):
    save(here / "scans/scene0000_00/color/100.jpg", CAT)
    save(here / "scans/scene0000_00/depth/100.png", MILLIMETRES.astype(np.uint16))


def table(here):
    struct = pa.array([{"bytes": photo, "path": None} for photo in shards.PHOTOS])
    pq.write_table(pa.table({"image": struct, "label": pa.array(range(4))}), here / "train-00000.parquet")


def tar(here):
    shards.write(here / "shards/0.tar", [(f"{i}.jpg", photo) for i, photo in enumerate(shards.PHOTOS)])


def video(here):
    videos.write(here / "drive.mp4", [np.roll(CAT, 5 * i, 1) for i in range(20)], "libx264", "yuv420p")


def rrd(here):
    recording = rr.RecordingStream("drive", recording_id="run-1")
    recording.save(str(here / "drive.rrd"))
    recording.set_time("frame", sequence=1)
    recording.log("camera", rr.Image(CAT))
    recording.disconnect()


DATASETS = {
    "images": photos,
    "tum-rgbd": desk,
    "kitti": drive,
    "coco": coco,
    "cityscapes": streets,
    "scannet": rooms,
    "parquet": table,
    "webdataset": tar,
    "video": video,
    "rerun": rrd,
}


def examples():
    (block,) = re.findall(r"```sh\n(# images: .*?)```", GUIDE, re.DOTALL)
    return {part.partition(":")[0]: part.splitlines()[1:] for part in block.split("# ")[1:]}


def test_each_format_has_an_example_and_a_row_in_the_table():
    assert examples().keys() == FORMATS.keys() == DATASETS.keys()
    assert set(re.findall(r"^\| `([\w-]+)` \|", GUIDE.partition("## Formats")[2], re.MULTILINE)) >= FORMATS.keys()


@pytest.mark.parametrize("name", DATASETS)
def test_the_example_of_a_format(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    DATASETS[name](tmp_path)
    for command in examples()[name]:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, (command, result.output)
        drawn = re.findall(r"-o (\S+)", command)
        for path in drawn:
            with Image.open(path) as opened:
                assert len(opened.convert("RGBA").getcolors(1 << 20)) > 1, command
    if name == "tum-rgbd":
        (line,) = re.findall(r"`(lt\.open_store.*?)`", GUIDE)
        depth = eval(line, {"lt": lt})
        np.testing.assert_array_equal(depth, np.roll(MILLIMETRES, 10, 1).astype(np.float32) / np.float32(5000))
