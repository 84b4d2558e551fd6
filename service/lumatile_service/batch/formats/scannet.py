"""ScanNet: frames exported from .sens files: color/, depth/, label/ and instance/, recognized by names.

Layout as SensReader exports it (ScanNet/ScanNet, "SensReader/python": a directory a kind, files named by the frame's
number). Depth: "SensReader/python/README.md": PNG, 16 bits, depth shift 1000, which "SensReader/README.md" says is from
metres; 0 = none. Labels as the README's data organization says: label and label-filt PNG, 16 bits, are ScanNet's label
ids, instance and instance-filt PNG, 8 bits, are instances. Poses and intrinsics are not read: there is no kind of
value for them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial

from lumatile_service.batch.formats.contents import depth_png, image_file, segmentation_png
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.source_files import SourceFiles

METER = 1000.0
"""The units of a depth PNG per metre."""

NUMBER = "frame"

_FRAME = re.compile(r"(.*/)?(?:(color)/\d+\.(?:jpg|jpeg|png)|(depth)/\d+\.png|(label|instance)(?:-filt)?/\d+\.png)")
_SIGN = re.compile(r"(.*/)?(?:pose/\d+\.txt|intrinsic/intrinsic_(?:color|depth)\.txt|label-filt/\d+\.png)")
_SCENE = re.compile(r"scene\d{4}_\d\d")


def matches(files: SourceFiles) -> bool:
    """Return whether a directory has color/ and depth/, and pose/, intrinsic/ or label-filt/ or the name of a scene.

    Other datasets have color/ and depth/ too, with other factors.
    """
    kinds, signed = defaultdict(set), set()
    for path in files.sizes:
        if frame := _FRAME.fullmatch(path):
            kinds[frame[1]].add(frame[2] or frame[3])
        if sign := _SIGN.fullmatch(path):
            signed.add(sign[1])
    return any(
        found >= {"color", "depth"}
        and (root in signed or _SCENE.fullmatch(root.split("/")[-2] if root else files.name) is not None)
        for root, found in kinds.items()
    )


def read(files: SourceFiles) -> list[LogCall]:
    """List each frame at the entity of its directory ("scene0000_00/color"), with its file's number as "frame".

    Depth in metres; labels and instances are segmentations.
    """
    calls = []
    for path, nbytes in files.sizes.items():
        found = _FRAME.fullmatch(path)
        if found is None:
            continue
        directory, _, name = path.rpartition("/")
        calls.append(
            LogCall(
                entity_path=directory,
                kind="image" if found[2] else "depth" if found[3] else "segmentation",
                uri=files.uri(path),
                read=partial(files.read, path),
                log=image_file if found[2] else partial(depth_png, meter=METER) if found[3] else segmentation_png,
                nbytes=nbytes,
                sequences={NUMBER: int(name.partition(".")[0])},
            )
        )
    return calls
