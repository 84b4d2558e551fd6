"""Cityscapes: stereo images, label ids, instance ids and disparities, recognized by the names of files.

Names as the README of the devkit says (mcordts/cityscapesScripts): CITY_SEQUENCE_FRAME_TYPE.png, six digits each.
Label ids and their colors: its helpers/labels.py. Instance ids: its preparation/json2instanceImg.py: 16 bits, class id
x 1000 + number of the instance, or only the class id. Disparities: its README: PNG p, 16 bits, d = (p - 1) / 256
pixels where p > 0, and 0 = none.

A depth image is p / meter, without an offset. With 256 units per pixel, each disparity would be 1/256 pixel too large;
with the offset subtracted, it would not equal the PNG any more, and d = 0 would mean none. So disparities are 16-bit
images, not depth images as for KITTI: `frame.source()` is p, and (p - 1) / 256 is exact in float32.

Polygons, trainIds, colored labels, cameras, vehicles and timestamps are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from lumatile.errors import ImageFileError
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.formats.contents import gray_png, image_file, segmentation_png
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.source_files import SourceFiles

FRAME, SEQUENCE, NUMBER = "frame", "sequence", "image"

Log = Callable[[RecordingStream, str, bytes], None]

LABELS: tuple[tuple[int, str, tuple[int, int, int]], ...] = (
    (0, "unlabeled", (0, 0, 0)),
    (1, "ego vehicle", (0, 0, 0)),
    (2, "rectification border", (0, 0, 0)),
    (3, "out of roi", (0, 0, 0)),
    (4, "static", (0, 0, 0)),
    (5, "dynamic", (111, 74, 0)),
    (6, "ground", (81, 0, 81)),
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (9, "parking", (250, 170, 160)),
    (10, "rail track", (230, 150, 140)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (14, "guard rail", (180, 165, 180)),
    (15, "bridge", (150, 100, 100)),
    (16, "tunnel", (150, 120, 90)),
    (17, "pole", (153, 153, 153)),
    (18, "polegroup", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (29, "caravan", (0, 0, 90)),
    (30, "trailer", (0, 0, 110)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
"""(id, name, sRGB color). The license plate is left out: its id is -1, which no image has."""

LABELS_URI = "https://github.com/mcordts/cityscapesScripts/blob/master/cityscapesscripts/helpers/labels.py"


def log_names(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    """Log the names and colors of labels."""
    recording.log_annotation_context(entity_path, [tuple(label) for label in json.loads(content)])


def log_disparity(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    """Log a disparity PNG unchanged, as an image, (h, w) uint16. Raises DecodeError, ImageFileError."""
    disparity = gray_png(content, recording.settings.pixel_limit)
    if disparity.dtype != np.uint16:
        raise ImageFileError("a disparity PNG must be of 16 bits, not 8")
    recording.log_image(entity_path, disparity)


_TYPES: Mapping[str, tuple[str, Kind, Log]] = {
    "leftImg8bit": ("left", "image", image_file),
    "rightImg8bit": ("right", "image", image_file),
    "gtFine_labelIds": ("labels", "segmentation", segmentation_png),
    "gtFine_instanceIds": ("instances", "segmentation", segmentation_png),
    "gtCoarse_labelIds": ("coarse/labels", "segmentation", segmentation_png),
    "gtCoarse_instanceIds": ("coarse/instances", "segmentation", segmentation_png),
    "disparity": ("disparity", "image", log_disparity),
}
"""Type in a file's name -> entity below the city, kind, function that logs it."""

_FILE = re.compile(
    rf"(?:.*/)?(?P<city>[^/]+)_(?P<sequence>\d{{6}})_(?P<frame>\d{{6}})_(?P<type>{'|'.join(_TYPES)})\.png"
)


def matches(files: SourceFiles) -> bool:
    """Return whether a file has a name of Cityscapes."""
    return any(_FILE.fullmatch(path) for path in files.sizes)


def read(files: SourceFiles) -> list[LogCall]:
    """List each file at an entity of its city: "aachen/left", "right", "labels", "instances", "disparity".

    The sequences "frame" and "sequence" have the numbers in its name. All images of a city have different numbers on
    the sequence "image": sequence x 1,000,000 + frame, since most sequences have only one labelled frame, 19.
    Coarse labels are at "aachen/coarse/labels". Names and colors of labels are the annotation context of the city.
    """
    found = [(path, name) for path in files.sizes if (name := _FILE.fullmatch(path))]
    names = json.dumps(LABELS).encode()
    calls = [
        LogCall(
            entity_path=city,
            kind="annotation_context",
            uri=LABELS_URI,
            read=partial(bytes, names),
            log=log_names,
            nbytes=len(names),
        )
        for city in dict.fromkeys(name["city"] for _, name in found if name["type"].startswith("gt"))
    ]
    for path, name in found:
        entity, kind, log = _TYPES[name["type"]]
        sequence, frame = int(name["sequence"]), int(name["frame"])
        calls.append(
            LogCall(
                entity_path=f"{name['city']}/{entity}",
                kind=kind,
                uri=files.uri(path),
                read=partial(files.read, path),
                log=log,
                nbytes=files.sizes[path],
                sequences={FRAME: frame, SEQUENCE: sequence, NUMBER: sequence * 1_000_000 + frame},
            )
        )
    return calls
