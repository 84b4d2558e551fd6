"""COCO: annotations/instances_*.json next to directories of images.

Layout and fields as "Data format" says (cocodataset.org/#format-data, "Object Detection"): images, annotations with a
segmentation (polygons, or an RLE if iscrowd is 1) and a bbox, categories. Masks are drawn in masks.py.
Captions, panoptic and stuff annotations are not read, nor are keypoints.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lumatile.errors import InvalidValueError, shown
from lumatile.log.recording import RecordingStream
from lumatile_service.batch.formats.coco.masks import check_pycocotools, paint
from lumatile_service.batch.formats.contents import image_file
from lumatile_service.batch.log_call import DatasetWarning, LogCall
from lumatile_service.batch.source_files import SourceFiles

OTHERS = ("captions", "image_info", "panoptic", "person_keypoints", "stuff")
"""Beginnings of the names of files of other tasks."""

MOST = 16
"""The most files without COCO's names that are looked into: more of them are probably one per image."""

NUMBER = "image"

Log = Callable[[RecordingStream, str, bytes], None]


def matches(files: SourceFiles) -> bool:
    """Return whether there are annotations of instances."""
    return bool(_annotation_files(files))


def read(files: SourceFiles) -> list[LogCall]:
    """List each image at the entity of its directory ("val2017"), with COCO's image id as sequence "image".

    The annotations of an image are two segmentations: at "val2017/categories" class ids are category ids, at
    "val2017/instances" they are 1, 2, ... in the order of the file; 0 is the background. Small annotations are drawn
    on top of large ones. The names of categories are the annotation context of "val2017"; "instances" has one without
    names. If several files annotate one directory, each has its own entity below it: "images/train".
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
    dtype: str
    """The dtype that holds all category ids."""


def log_categories(recording: RecordingStream, entity_path: str, content: bytes, *, dtype: str) -> None:
    """Log the category ids of a picture."""
    annotations, height, width = _picture(content, recording.settings.pixel_limit)
    ids = [_category_id(annotation) for annotation in annotations]
    recording.log_segmentation_image(entity_path, paint(annotations, ids, height, width, dtype))


def log_instances(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    """Log the instances of a picture, as uint8, or as uint16 if there are more than 255."""
    annotations, height, width = _picture(content, recording.settings.pixel_limit)
    numbers = range(1, len(annotations) + 1)
    dtype = "uint8" if len(annotations) <= 255 else "uint16"
    recording.log_segmentation_image(entity_path, paint(annotations, numbers, height, width, dtype))


def log_names(recording: RecordingStream, entity_path: str, content: bytes) -> None:
    """Log the names of categories."""
    recording.log_annotation_context(entity_path, [(each["id"], each["name"]) for each in json.loads(content)])


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
            log=log_names,
            nbytes=len(content),
        )
    logs: Mapping[str, Log] = {"categories": partial(log_categories, dtype=part.dtype), "instances": log_instances}
    for number, file_name, pixels, picture in part.images:
        file = _joined(part.directory, file_name)
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
                read=partial(bytes, picture),
                log=log,
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


def _fail(reason: str, recording: RecordingStream, entity_path: str, content: bytes) -> None:  # noqa: ARG001
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
    return _Part(
        path=path,
        name=_split(path),
        directory=directory,
        images=[
            (each["id"], each["file_name"], _pixels(each), _picture_json(each, of_image.get(each["id"], [])))
            for each in images
        ],
        categories=categories,
        dtype="uint16" if any(isinstance(each, int) and each > 255 for each in ids) else "uint8",
    )


def _check_image(image: Mapping[str, Any]) -> None:
    if type(image["id"]) is not int or not isinstance(image["file_name"], str):
        raise InvalidValueError(f"an image must have an integer id and a file_name, not {shown(image)}")


def _image_directory(files: SourceFiles, path: str, images: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the directory of most images: val2017/, images/val2017/, images/ or the parent of annotations/."""
    root = _directory(_directory(path))
    split = _split(path)
    places = [_joined(root, place) for place in (split, f"images/{split}", "images", "")]
    found = {place: sum(_joined(place, each["file_name"]) in files.sizes for each in images) for place in places}
    best = max(places, key=lambda place: found[place])
    return best if found[best] else None


def _pixels(image: Mapping[str, Any]) -> int | None:
    height, width = image.get("height"), image.get("width")
    return height * width if isinstance(height, int) and isinstance(width, int) else None


def _picture_json(image: Mapping[str, Any], annotations: Sequence[Any]) -> bytes:
    return _json({"annotations": annotations, "height": image.get("height"), "width": image.get("width")})


def _picture(content: bytes, pixel_limit: int) -> tuple[list[dict[str, Any]], int, int]:
    picture = json.loads(content)
    height, width = picture["height"], picture["width"]
    if not all(type(size) is int and size > 0 for size in (height, width)):
        raise InvalidValueError(f"height and width must be positive integers, not {shown(height)} and {shown(width)}")
    if height * width > pixel_limit:
        raise InvalidValueError(f"{width}x{height} pixels are more than the limit of {pixel_limit}")
    return picture["annotations"], height, width


def _category_id(annotation: Mapping[str, Any]) -> int:
    number = annotation.get("category_id")
    if type(number) is not int or not 0 <= number <= 65535:
        raise InvalidValueError(
            f"annotation {shown(annotation.get('id'))}: category_id must be 0 to 65535, not {shown(number)}"
        )
    return number


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _directory(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory and name else directory or name


def _split(path: str) -> str:
    return _name(path)[: -len(".json")].removeprefix("instances_")
