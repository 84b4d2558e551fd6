"""COCO: annotations/instances_*.json next to directories of images.

Layout and fields as "Data format" says (cocodataset.org/#format-data, "Object Detection"): images, annotations with a
segmentation (polygons, or an RLE if iscrowd is 1) and a bbox, categories. Masks are drawn in masks.py.
Captions, panoptic and stuff annotations are not read, nor are keypoints.
"""

from __future__ import annotations

import json
import posixpath
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lumatile.errors import InvalidValueError, shown
from lumatile_service.batch.formats.coco.logs import log_categories, log_instances, log_names
from lumatile_service.batch.formats.coco.masks import check_pycocotools
from lumatile_service.batch.formats.contents import image_file, stored_picture
from lumatile_service.batch.log_call import DatasetWarning, LogCall
from lumatile_service.batch.source_files import SourceFiles

OTHERS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")
"""Beginnings of the names of files of other tasks."""

MOST = 16
"""The most files without COCO's names that are looked into: more of them are probably one per image."""

NUMBER = "image"

Log = Callable[..., None]


def matches(files: SourceFiles) -> bool:
    """Return whether there are annotations of instances."""
    return bool(_annotation_files(files))


def read(files: SourceFiles) -> list[LogCall]:
    """List each image at the entity of its directory ("val2017"), with COCO's image id as sequence "image".

    The annotations of an image are two segmentations: at "val2017/categories" class ids are category ids, at
    "val2017/instances" they are 1, 2, ... in the order of the file; 0 is the background. If a file has the category id
    0, class ids are category ids + 1 instead, with a warning. Small annotations are drawn on top of large ones. Masks
    of an image that its EXIF orientation turns are turned with it, if `width` and `height` are those of its pixels as
    stored. The names of categories are the annotation context of "val2017"; "instances" has one without names. If
    several files annotate one directory, each has its own entity below it: "images/train".
    A file none of whose images are in the source is left out, with a warning: the archives hold those of all splits.
    Reading a file takes about six times its size in memory; afterwards about its size is kept.
    Raises InvalidValueError if no file is left, or pycocotools is not installed.
    """
    check_pycocotools()
    calls: list[LogCall] = []
    parts: list[_Part] = []
    for path in _annotation_files(files):
        try:
            part = _read_part(files, path)
        except InvalidValueError as e:
            calls.append(_broken(files, path, e))
            continue
        if part is None:
            warnings.warn(f"{path} is left out: none of its images are in {files.url}", DatasetWarning, stacklevel=2)
        else:
            parts.append(part)
    shared = Counter(part.directory for part in parts)
    for part in parts:
        entity = part.directory or files.name
        calls.extend(_calls(files, part, f"{entity}/{part.name}" if shared[part.directory] > 1 else entity))
    if not calls:
        raise InvalidValueError(f"{files.url} has no annotations of images in it")
    return calls


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The content of one file."""

    path: str
    name: str
    """The name of the split: "val2017"."""
    directory: str
    """The directory of the images."""
    images: Sequence[tuple[int, str, int | None, bytes]]
    """For each image: its id, file name, pixels if known, and height, width and annotations as JSON."""
    categories: Sequence[Mapping[str, Any]]
    shift: int
    """Class id minus category id: 1 if 0 is the id of a category, else 0."""
    dtype: str
    """The dtype that holds all class ids."""


def _annotation_files(files: SourceFiles) -> list[str]:
    """Return the files named instances_*.json; without any, those that look like them and are not of another task."""
    found = [path for path in files.under("", ".json") if _directory(path).rpartition("/")[2] == "annotations"]
    named = [path for path in found if _name(path).startswith("instances_")]
    if named or len(found) > MOST:
        return named
    return [path for path in found if not _name(path).startswith(OTHERS) and _has_keys(files.read(path))]


def _has_keys(content: bytes) -> bool:
    return all(key in content for key in (b'"images"', b'"annotations"', b'"categories"'))


def _calls(files: SourceFiles, part: _Part, entity: str) -> Iterator[LogCall]:
    uri = files.uri(part.path)
    for path, classes, member in ((entity, part.categories, "categories"), (f"{entity}/instances", [], "no names")):
        content = _json(classes)
        yield LogCall(
            entity_path=path,
            kind="annotation_context",
            uri=uri,
            member=member,
            read=partial(bytes, content),
            log=partial(log_names, shift=part.shift),
            beside=b"shift" * part.shift,
            nbytes=len(content),
        )
    logs: Mapping[str, Log] = {
        "categories": partial(log_categories, dtype=part.dtype, shift=part.shift),
        "instances": log_instances,
    }
    for number, file_name, pixels, picture in part.images:
        file = _image_path(files, part.directory, file_name)
        yield LogCall(
            entity_path=entity,
            kind="image",
            uri=files.uri(file),
            read=partial(files.read, file) if file in files.sizes else partial(_missing, file),
            log=image_file,
            nbytes=files.sizes.get(file, 0),
            sequences={NUMBER: number},
        )
        for name, log in logs.items():
            yield LogCall(
                entity_path=f"{entity}/{name}",
                kind="segmentation",
                uri=uri,
                member=f"image_id={number}",
                read=partial(_turned, files, file, picture),
                log=partial(log, file=file),
                beside=b"shift" * part.shift if name == "categories" else b"",
                nbytes=len(picture),
                pixels=pixels,
                sequences={NUMBER: number},
            )


def _broken(files: SourceFiles, path: str, error: InvalidValueError) -> LogCall:
    """Return a call that becomes the error row of a file that is not COCO."""
    return LogCall(
        entity_path=_split(path),
        kind="annotation_context",
        uri=files.uri(path),
        member="categories",
        read=partial(files.read, path),
        log=partial(_fail, str(error)),
        nbytes=files.sizes[path],
    )


def _missing(path: str) -> bytes:
    raise FileNotFoundError(f"there is no file {path}")


def _fail(reason: str, *_: object) -> None:
    raise InvalidValueError(reason)


def _read_part(files: SourceFiles, path: str) -> _Part | None:
    """Read a file; None: none of its images are in the source. Raises InvalidValueError."""
    try:
        loaded = json.loads(files.read(path))
        images, annotations, categories = (loaded[key] for key in ("images", "annotations", "categories"))
        for image in images:
            _check_image(image)
        of_image: defaultdict[int, list[Any]] = defaultdict(list)
        for annotation in annotations:
            of_image[annotation["image_id"]].append(annotation)
        ids = [each["id"] for each in categories] + [each.get("category_id") for each in annotations]
    except InvalidValueError as e:
        raise InvalidValueError(f"{path}: {e}") from e
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InvalidValueError(f"{path} is not a COCO file of instances: {type(e).__name__}: {e}") from e
    directory = _image_directory(files, path, images)
    if directory is None:
        return None
    if lost := sum(len(of_image[number]) for number in of_image.keys() - {image["id"] for image in images}):
        warnings.warn(
            f"{path}: {lost} annotations belong to images that it does not list", DatasetWarning, stacklevel=2
        )
    shift = int(0 in ids)
    if shift:
        reason = "a category has the id 0, which is the background's here: class ids are category ids + 1"
        warnings.warn(f"{path}: {reason}", DatasetWarning, stacklevel=2)
    return _Part(
        path=path,
        name=_split(path),
        directory=directory,
        images=[
            (each["id"], each["file_name"], _pixels(each), _picture_json(each, of_image.get(each["id"], [])))
            for each in images
        ],
        categories=categories,
        shift=shift,
        dtype="uint16" if any(isinstance(each, int) and each + shift > 255 for each in ids) else "uint8",
    )


def _check_image(image: Mapping[str, Any]) -> None:
    if type(image["id"]) is not int or not isinstance(image["file_name"], str):
        raise InvalidValueError(f"an image must have an integer id and a file_name, not {shown(image)}")


def _image_directory(files: SourceFiles, path: str, images: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the directory of most images: val2017/, images/val2017/, images/ or the parent of annotations/."""
    root = _directory(_directory(path))
    split = _split(path)
    places = [_joined(root, place) for place in (split, f"images/{split}", "images", "")]
    found = {
        place: sum(_image_path(files, place, each["file_name"]) in files.sizes for each in images) for place in places
    }
    best = max(places, key=lambda place: found[place])
    return best if found[best] else None


def _pixels(image: Mapping[str, Any]) -> int | None:
    height, width = image.get("height"), image.get("width")
    return height * width if isinstance(height, int) and isinstance(width, int) else None


def _picture_json(image: Mapping[str, Any], annotations: Sequence[Any]) -> bytes:
    return _json({"annotations": annotations, "height": image.get("height"), "width": image.get("width")})


def _turned(files: SourceFiles, file: str, picture: bytes) -> bytes:
    """Return the JSON of a picture, with the EXIF orientation of its image if the masks must be turned by it."""
    size, orientation = stored_picture(files, file)
    if orientation == 1:
        return picture
    described = json.loads(picture)
    if size != (described["width"], described["height"]):
        return picture  # the masks are those of the upright picture
    return _json({**described, "orientation": orientation})


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _image_path(files: SourceFiles, directory: str, file_name: str) -> str:
    """Return the path of an image in the source: "./" is left out, and backslashes may separate its parts."""
    path = _joined(directory, file_name)
    tried = (path, posixpath.normpath(path), posixpath.normpath(path.replace("\\", "/")))
    return next((each for each in tried if each in files.sizes), path)


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory and name else directory or name


def _split(path: str) -> str:
    return _name(path)[: -len(".json")].removeprefix("instances_")
