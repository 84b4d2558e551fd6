"""A directory of image files; those in it are entities, as class folders or cameras are."""

from __future__ import annotations

from collections import Counter
from functools import partial

from lumatile_service.batch.formats.contents import image_file
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.source_files import SourceFiles

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".jp2", ".tga")

TIMELINE = "image"


def matches(files: SourceFiles) -> bool:
    """Whether there is an image file."""
    return bool(files.under("", *SUFFIXES))


def read(files: SourceFiles) -> list[LogCall]:
    """Each image file at the entity of its directory, on the sequence "image": its place among the files there.

    Files in the directory itself are at the entity of its name.
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
