"""`lumatile ingest` takes the same memory whatever a dataset's size."""

import io
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from skimage import data

FEW, MANY = 150, 400
"""Files; FEW of them are more than all queues hold."""

QUEUE = 64 << 20

JOB = f"""
import sys
from lumatile_service.batch import ingest

summary = ingest(sys.argv[1], sys.argv[2], tile_format="srgb8", threads=2, queue_bytes={QUEUE})
assert not summary.errors
with open("/proc/self/status") as status:
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(summary.values, summary.bytes_out, int(peak) * 1024)
"""


@pytest.fixture(scope="module")
def photo():
    """A 1920x1080 JPEG file of half a megabyte."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(-20, 20, (1080, 1920, 3))
    picture = np.asarray(Image.fromarray(data.coffee()).resize((1920, 1080))) + noise
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(stream, "jpeg", quality=85)
    return stream.getvalue()


def folder(root, photo, count):
    root.mkdir()
    (root / "0.jpg").write_bytes(photo)
    for i in range(1, count):
        os.link(root / "0.jpg", root / f"{i}.jpg")


def shard(root, photo, count):
    root.mkdir()
    with tarfile.open(root / "0.tar", "w") as archive:
        for i in range(count):
            header = tarfile.TarInfo(f"{i}.jpg")
            header.size = len(photo)
            archive.addfile(header, io.BytesIO(photo))


def table(root, photo, count):
    """All in one row group, in small pages; different bytes, or they would be stored once."""
    root.mkdir()
    photos = pa.array([photo + str(i).encode() for i in range(count)])
    options = {"row_group_size": count, "write_batch_size": 4, "use_dictionary": False}
    pq.write_table(pa.table({"image": photos}), root / "0.parquet", **options)


@pytest.mark.parametrize("layout", [folder, shard, table])
def test_memory_does_not_grow_with_the_dataset(tmp_path, photo, layout):
    peaks = {}
    for count in (FEW, MANY):
        layout(tmp_path / str(count), photo, count)
        command = [sys.executable, "-c", JOB, str(tmp_path / str(count)), str(tmp_path / f"store{count}")]
        values, bytes_out, peaks[count] = map(int, subprocess.check_output(command, text=True, timeout=200).split())
        assert values == count
        shutil.rmtree(tmp_path / f"store{count}")  # some gigabytes
    assert bytes_out > 4 << 30
    assert peaks[MANY] < peaks[FEW] + (96 << 20)
