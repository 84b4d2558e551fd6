"""Directories of image files: each directory, of a class or a camera for example, is an entity."""

from __future__ import annotations

from collections import Counter
from functools import partial

from lumatile_service.batch.formats.contents import image_file
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.source_files import SourceFiles

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".apng",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
    ".bmp",
    ".dib",
    ".gif",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
    ".pfm",
    ".jp2",
    ".tga",
)

TIMELINE = "image"


def matches(files: SourceFiles) -> bool:
    """Return whether there is an image file."""
    return bool(files.under("", *SUFFIXES))


def read(files: SourceFiles) -> list[LogCall]:
    """List each image file at the entity of its directory, with its number among the files there as sequence "image".

    Files at the top of the source are at an entity with the name of the source.
    """
    numbers: Counter[str] = Counter()
    calls = []
    for path in files.under("", *SUFFIXES):
        entity = path.rpartition("/")[0] or files.name
        calls.append(
            LogCall(
                entity_path=entity,
                kind="image",
                uri=files.uri(path),
                read=partial(files.read, path),
                log=image_file,
                nbytes=files.sizes[path],
                sequences={TIMELINE: numbers[entity]},
            )
        )
        numbers[entity] += 1
    return calls
