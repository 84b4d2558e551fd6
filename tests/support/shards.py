"""WebDataset shards with real pixels, and what is read of them."""

import io
import tarfile

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images

import lumatile as lt


def encoded(array, kind, **options):
    content = io.BytesIO()
    Image.fromarray(array).save(content, kind, **options)
    return content.getvalue()


def npy(array, **options):
    content = io.BytesIO()
    np.save(content, array, **options)
    return content.getvalue()


CHINA, FLOWER = load_sample_images().images
CAT = encoded(data.cat(), "jpeg")
PHOTOS = [encoded(CHINA, "jpeg"), encoded(FLOWER, "jpeg"), CAT, encoded(data.coffee(), "jpeg")]
IDS = (data.coins() // 32).astype(np.uint8)
MILLIMETRES = np.where(data.coins() > 90, data.coins().astype(np.uint16) * 17, 0).astype(np.uint16)


def write(path, members, mode="w", **options):
    """A shard."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, mode, **options) as archive:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def frames_of(store, summary, entity="image"):
    frames = lt.open_store(store).recording(summary.recording_id).frames(entity)
    return {frame.times["sample"]: frame for frame in frames if "sample" in frame.times}
