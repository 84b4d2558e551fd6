"""The known formats of datasets, and the choice of one for a source."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike

from lumatile.errors import InvalidValueError
from lumatile_service.batch.formats import cityscapes, image_folder, kitti, parquet, scannet, tum_rgbd, webdataset
from lumatile_service.batch.formats.coco import reader as coco
from lumatile_service.batch.formats.rerun import reader as rerun_rrd
from lumatile_service.batch.formats.video import reader as video
from lumatile_service.batch.log_call import Reader
from lumatile_service.batch.source_files import SourceFiles

UNREAD = (
    *(".heic", ".heif", ".jxl", ".hdr", ".exr", ".dng", ".cr2", ".nef", ".arw", ".psd", ".svg"),
    *(".npy", ".npz", ".h5", ".hdf5", ".mat", ".tfrecord", ".pkl", ".zip"),
    *(".pcd", ".ply", ".las", ".laz", ".bag", ".mcap", ".db3"),
)
"""Suffixes of data that no format reads as files."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of datasets."""

    matches: Callable[[SourceFiles], bool]
    """Returns whether files look like this format."""
    read: Reader
    """Lists the values in the files."""
    finds: str
    """The files that it reads, for messages."""
    suffixes: tuple[str, ...] = image_folder.SUFFIXES
    """The suffixes of data that it reads."""


FORMATS: Mapping[str, Format] = {
    "tum-rgbd": Format(
        matches=tum_rgbd.matches, read=tum_rgbd.read, finds="rgb.txt and depth.txt in one directory, and what they list"
    ),
    "kitti": Format(
        matches=kitti.matches,
        read=kitti.read,
        finds="images in image_0*/, scans in velodyne*/, PNG in proj_depth/, disp_*/ and semantic/, label_2/*.txt",
    ),
    "cityscapes": Format(
        matches=cityscapes.matches,
        read=cityscapes.read,
        finds="CITY_000000_000000_TYPE.png of the types leftImg8bit, gtFine_labelIds, disparity and others",
    ),
    "coco": Format(matches=coco.matches, read=coco.read, finds="annotations/instances_*.json and the images they list"),
    "scannet": Format(
        matches=scannet.matches, read=scannet.read, finds="numbered files in color/, depth/, label/ and instance/"
    ),
    "parquet": Format(
        matches=parquet.matches,
        read=parquet.read,
        finds=".parquet files with a column of images",
        suffixes=(".parquet", *image_folder.SUFFIXES),
    ),
    "webdataset": Format(
        matches=webdataset.matches,
        read=webdataset.read,
        finds=f"images and arrays in {', '.join(webdataset.SHARDS)} files",
        suffixes=webdataset.SHARDS,
    ),
    "video": Format(
        matches=video.matches,
        read=video.read,
        finds=f"frames of {', '.join(video.SUFFIXES)} files",
        suffixes=video.SUFFIXES,
    ),
    "rerun": Format(
        matches=rerun_rrd.matches,
        read=rerun_rrd.read,
        finds="images, depth, segmentations, points, annotation contexts and clears in .rrd files",
        suffixes=(".rrd",),
    ),
    "images": Format(
        matches=image_folder.matches, read=image_folder.read, finds=f"{', '.join(image_folder.SUFFIXES)} files"
    ),
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


def left_out(files: SourceFiles, name: str) -> dict[str, int]:
    """Return what a source has and the format `name` does not read -> the number of files or links.

    Of data it is the suffix, with the format that reads it, if there is one. Of a reader of one's own, it is not known.
    """
    links = {kind: len(paths) for kind, paths in files.left_out.items()}
    if name not in FORMATS:
        return links
    known = {suffix: f"{suffix} (--format {other})" for other, each in FORMATS.items() for suffix in each.suffixes}
    known |= dict.fromkeys(image_folder.SUFFIXES, "images (--format images)")
    known |= dict.fromkeys(UNREAD, "")
    found: Counter[str] = Counter()
    for path in files.sizes:
        suffix = next(
            (each for each in (".tar.gz", path[path.rfind(".") :].lower()) if path.lower().endswith(each)), ""
        )
        if suffix in known and suffix not in FORMATS[name].suffixes:
            found[known[suffix] or suffix] += 1
    return {**dict(found.most_common()), **links}


def nothing_found(source: str | PathLike[str], name: str) -> InvalidValueError:
    """Return the error of a job whose format or reader has listed no value: it says what was looked for."""
    files = SourceFiles(source)
    looked = (
        f"the format {name} reads {FORMATS[name].finds}" if name in FORMATS else f"the reader {name} lists no value"
    )
    there = Counter(path[path.rfind(".") :].lower() if "." in path else "no suffix" for path in files.sizes)
    shown = ", ".join(f"{count} {suffix}" for suffix, count in there.most_common(5)) or "no files"
    return InvalidValueError(f"nothing to log in {files.url}: {looked}; there are {shown}")


def _imported(name: str) -> Reader:
    module, _, function = name.partition(":")
    try:
        reader: Reader = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as e:
        raise InvalidValueError(f"a reader must be 'module:function' that can be imported, not {name!r}: {e}") from e
    return reader
