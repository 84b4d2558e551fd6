"""Recordings to export, and what other tools read in the files."""

import json

import av
import numpy as np
from PIL import Image
from skimage import data
from tests.support.shards import CAT, IDS, MILLIMETRES

import lumatile as lt
from lumatile_service.batch.formats.contents import image_file

ASTRONAUT = data.astronaut()
RGBA = np.dstack([ASTRONAUT[:200, :300], data.camera()[:200, :300]])
DEEP = ASTRONAUT[:250, :300].astype(np.uint16) * 257 + np.arange(300, dtype=np.uint16)[:, None] % 7
"""RGB of 16 bits that 8 bits don't hold."""
METRES = (data.coins() / np.float32(77)).astype(np.float32)


def log_pictures(log):
    """Entity -> what was logged there at frames 8, 9 and 10."""
    logged = {}
    for frame in (8, 9, 10):
        log.set_time_sequence("frame", frame)
        log.set_time_nanos("time", 1_700_000_000_123_456_789 + frame)
        for entity, method, array in (
            ("camera/rgb", log.log_image, np.roll(ASTRONAUT, frame, 1)),
            ("camera/gray", log.log_image, np.roll(data.camera(), frame, 1)),
            ("camera/rgba", log.log_image, np.roll(RGBA, frame, 1)),
            ("camera/deep", log.log_image, np.roll(DEEP, frame, 1)),
            ("camera/deep gray", log.log_image, np.roll(DEEP[..., 0], frame, 1)),
            ("camera/depth", log.log_depth_image, np.roll(MILLIMETRES, frame, 1)),
            ("camera/depth8", log.log_depth_image, np.roll(data.coins(), frame, 1)),
            ("camera/ids", log.log_segmentation_image, np.roll(IDS, frame, 1)),
            ("camera/ids16", log.log_segmentation_image, np.roll(IDS.astype(np.int64) * 7000, frame, 1)),
        ):
            method(entity, array)
            logged.setdefault(entity, []).append(array)
        log.log_image_file("camera/jpeg", img_bytes=CAT)
        logged.setdefault("camera/jpeg", []).append(CAT)
    log.flush()
    return logged


def ffmpeg_rgb48(path):
    """A 16-bit RGB PNG as FFmpeg reads it (Pillow makes 8 bits of it)."""
    with av.open(str(path)) as opened:
        (frame,) = opened.decode(video=0)
        assert frame.format.name == "rgb48be"
        return frame.to_ndarray(format="rgb48le")


def pixels(path):
    if path.parent.name == "deep":
        return ffmpeg_rgb48(path)
    return pillow(path)


def pillow(file):
    with Image.open(file) as opened:
        return np.asarray(opened)


def lines(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def equal(found, logged):
    if isinstance(logged, bytes):
        return found == logged
    return found.size == logged.size and np.array_equal(found.reshape(logged.shape), logged)


def log_hugging_face(log):
    labels = [{"label": 3, "caption": "a cat", "box": [1, 2.5]}, {"label": 4, "caption": None}, None]
    log.log_annotation_context("ids", [(1, "coin", (200, 100, 0))])
    for frame, ext in enumerate(labels):
        log.set_time_sequence("frame", frame)
        image_file(log, "photos", CAT, ext=ext)
    log.set_time_nanos("time", 1_700_000_000_123_456_789)
    log.log_depth_image("depth", MILLIMETRES, meter=5000)
    log.log_segmentation_image("ids", IDS)
    log.log_points("cloud", np.zeros((3, 3)))
    log.flush()


def flip_a_byte_of(store, array):
    """Damage the tiles file where it has this frame."""
    recording = lt.open_store(store).recording()
    for entity in recording.entities():
        for frame in recording.frames(entity):
            if frame.kind == "image" and frame.error is None and equal(frame.source(), array):
                tile = frame.tile().tobytes()[:2000]
    for path in (store / "run-1" / "tiles").iterdir():
        content = path.read_bytes()
        if tile in content:
            at = content.index(tile) + 1000
            path.unlink()
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
