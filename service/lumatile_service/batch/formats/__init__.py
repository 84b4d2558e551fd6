"""The known formats of datasets, and the choice of one for a source."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lumatile.errors import InvalidValueError
from lumatile_service.batch.formats import cityscapes, image_folder, kitti, parquet, scannet, tum_rgbd, webdataset
from lumatile_service.batch.formats.coco import reader as coco
from lumatile_service.batch.formats.rerun import reader as rerun_rrd
from lumatile_service.batch.formats.video import reader as video
from lumatile_service.batch.log_call import Reader
from lumatile_service.batch.source_files import SourceFiles


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of datasets."""

    matches: Callable[[SourceFiles], bool]
    """Returns whether files look like this format."""
    read: Reader
    """Lists the values in the files."""


FORMATS: Mapping[str, Format] = {
    "tum-rgbd": Format(matches=tum_rgbd.matches, read=tum_rgbd.read),
    "kitti": Format(matches=kitti.matches, read=kitti.read),
    "cityscapes": Format(matches=cityscapes.matches, read=cityscapes.read),
    "coco": Format(matches=coco.matches, read=coco.read),
    "scannet": Format(matches=scannet.matches, read=scannet.read),
    "parquet": Format(matches=parquet.matches, read=parquet.read),
    "webdataset": Format(matches=webdataset.matches, read=webdataset.read),
    "video": Format(matches=video.matches, read=video.read),
    "rerun": Format(matches=rerun_rrd.matches, read=rerun_rrd.read),
    "images": Format(matches=image_folder.matches, read=image_folder.read),
}
"""Name -> format; the first one that matches is taken."""


def find_reader(files: SourceFiles, name: str | None, reader: str | None) -> tuple[str, Reader]:
    """Return the name of a format and its reader.

    `reader`: "module:function", which is taken if given. `name`: a name in FORMATS; None: what the files look like.
    Raises InvalidValueError.
    """
    if reader is not None:
        return reader, _imported(reader)
    if name is not None:
        if name not in FORMATS:
            raise InvalidValueError(f"the format must be one of {', '.join(FORMATS)}, not {name!r}")
        return name, FORMATS[name].read
    for known, each in FORMATS.items():
        if each.matches(files):
            return known, each.read
    raise InvalidValueError(f"{files.url} looks like none of the formats {', '.join(FORMATS)}: name one, or a reader")


def _imported(name: str) -> Reader:
    module, _, function = name.partition(":")
    try:
        reader: Reader = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as e:
        raise InvalidValueError(f"a reader must be 'module:function' that can be imported, not {name!r}: {e}") from e
    return reader
