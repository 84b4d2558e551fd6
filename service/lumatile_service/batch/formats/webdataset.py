"""WebDataset: tar shards of samples.

As its README says ("The WebDataset Format"; and tariterators.py, base_plus_ext and group_by_keys, for the details):
shards are tar files, named by numbers; the files of a sample follow each other and have the same key, the path up to
the first dot of its last part; the text after that dot, in lower case, is the type of a file. Files whose path begins
with a part like __this__ describe the shard.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lumatile.content.extensions import extension_json
from lumatile.errors import ImageFileError, InvalidValueError
from lumatile.log.recording import RecordingStream
from lumatile.values import Kind
from lumatile_service.batch.formats.contents import Ext, depth_file, image_file, segmentation_file
from lumatile_service.batch.formats.image_folder import SUFFIXES
from lumatile_service.batch.formats.npy import npy_array, npy_header
from lumatile_service.batch.formats.tar_members import TarMember, tar_members
from lumatile_service.batch.log_call import LogCall, entity_or, refused
from lumatile_service.batch.source_files import SourceFiles

SHARDS = (".tar", ".tar.gz", ".tgz")

TIMELINE = "sample"

METER = 1000.0
"""The units of a depth PNG per metre: millimetres. The format does not define it; other units need a reader of their
own."""

SAMPLE_BYTES = 1 << 30
"""The most bytes of a sample, which are in memory at a time."""

TEXT_BYTES = 16 << 20
"""The longest text or JSON, in bytes."""

DEPTH, SEGMENTATION = ("depth",), ("seg", "mask", "label", "segmentation")
"""Names before a LOSSLESS suffix or .npy of files that are not images, but depth or class ids."""

LOSSLESS = ("png", "tif", "tiff", "bmp", "gif", "pgm", "pbm", "pnm", "pfm")
"""Suffixes of image files that hold exact numbers."""

PICKLES = ("pyd", "pkl", "pickle", "pth", "pt", "joblib", "dill")
"""Suffixes of pickles, which are never loaded: loading one runs code in it."""

BESIDE = (".md", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".csv", ".idx")
"""Suffixes of texts that may lie next to shards."""

TEXTS: Mapping[str, Callable[[bytes], Any]] = {
    "cls": int,
    "txt": bytes.decode,
    "json": json.loads,
}
"""Suffix of a text that becomes an extension component -> function that parses it."""


def matches(files: SourceFiles) -> bool:
    """Return whether all files are tar archives, except for texts next to them."""
    return bool(files.under("", *SHARDS)) and all(path.lower().endswith((*SHARDS, *BESIDE)) for path in files.sizes)


def read(files: SourceFiles) -> Iterator[LogCall]:
    """List each image of each sample, with the sample's number in the directory as sequence "sample".

    Images are files .jpg, .png and others that Pillow knows, and .npy arrays (h, w), (h, w, 3) and (h, w, 4).
    depth.png, depth.tif and depth.npy, for example, are depths: integers in millimetres, floats in metres. Files of
    seg, mask, label and segmentation are class ids, with a palette its indices; JPEG and others that are not exact are
    images. The entity is the text before the suffix, "left.depth.png" -> "left/depth", or
    "image"; for a shard in a directory, below the directory. A sample's key, and its .cls, .txt and .json, are
    extension components of all its images: {"key": "000", "cls": 3}. A text that cannot be parsed becomes an error row.
    Pickles are not loaded, nor are .npy files of objects, which hold pickles: for each of their suffixes a shard has
    one error row, whose member says how many. Files of other types are not logged, nor are arrays of other shapes.
    Of a shard that is truncated or corrupt, the complete samples are logged, and one error row.
    """
    numbers: Counter[str] = Counter()
    for path in files.under("", *SHARDS):
        shard = _Shard(files, path, numbers)
        failure: Exception | None = None
        try:
            with files.open(path) as stream:
                for member in tar_members(stream):
                    yield from shard.take(member)
        except Exception as e:  # noqa: BLE001 - one shard must not end the job
            failure = e
        yield from shard.end_sample()
        if failure is not None:
            reason = f"shard {path}: {failure}"
            yield shard.error(None, InvalidValueError(reason))
        for suffix, count in sorted(shard.pickles.items()):
            reason = f"a .{suffix} file is a pickle, which is never loaded"
            yield shard.error(f"{count} files *.{suffix}", InvalidValueError(reason))


@dataclass(kw_only=True)
class _Sample:
    """The files of a sample that have been read."""

    key: str
    ext: dict[str, Any] = field(default_factory=dict)
    values: list[tuple[TarMember, str, bytes | Exception]] = field(default_factory=list)
    """(member, suffix, content, or the error of reading it) of each value to log."""
    nbytes: int = 0


class _Shard:
    """Lists the values of one shard: the calls of a sample when the next one begins."""

    def __init__(self, files: SourceFiles, path: str, numbers: Counter[str]) -> None:
        """Begin a shard. `numbers`: the number of samples in each directory before it, which is continued."""
        self._uri = files.uri(path)
        self._directory = path.rpartition("/")[0]
        self._otherwise = self._directory or files.name
        self._numbers = numbers
        self._sample: _Sample | None = None
        self.pickles: Counter[str] = Counter()
        """Suffix -> number of files that were not loaded."""

    def take(self, member: TarMember) -> Iterator[LogCall]:
        """Take a file; if it is the first of its sample, yield the calls of the sample before."""
        parts = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]*)", member.name, re.DOTALL)
        if parts is None or re.match(r"__[^/]*__($|/)", member.name):
            return
        key, suffix = parts[1], parts[2].lower()
        if self._sample is None or key != self._sample.key:
            yield from self.end_sample()
            self._sample = _Sample(key=key)
        self._read(self._sample, member, suffix)

    def end_sample(self) -> Iterator[LogCall]:
        """End the sample, and yield its calls."""
        sample, self._sample = self._sample, None
        if sample is None:
            return
        number = self._numbers[self._directory]
        self._numbers[self._directory] += 1
        ext = {"key": sample.key, **sample.ext}
        used = set()
        for member, suffix, content in sample.values:
            kind, log = _logs(suffix)
            entity = entity_or("/".join(_names(suffix)), kind)
            entity = f"{entity}/{suffix}" if entity in used else entity
            used.add(entity)
            failed = isinstance(content, Exception)
            yield LogCall(
                entity_path=f"{self._directory}/{entity}" if self._directory else entity,
                kind=kind,
                uri=self._uri,
                member=member.name,
                read=partial(refused, content) if isinstance(content, Exception) else partial(bytes, content),
                log=partial(log, ext=ext),
                beside=b"" if failed else (extension_json(ext) or "").encode(),
                nbytes=member.size,
                sequences={TIMELINE: number},
            )

    def error(self, member: str | None, error: Exception) -> LogCall:
        """Return a call that becomes an error row of the shard."""
        return LogCall(
            entity_path=self._otherwise,
            kind="image",
            uri=self._uri,
            member=member,
            read=partial(refused, error),
            log=image_file,
        )

    def _read(self, sample: _Sample, member: TarMember, suffix: str) -> None:
        last = suffix.rpartition(".")[2]
        if last in PICKLES:
            self.pickles[last] += 1
        elif last in TEXTS:
            try:
                if member.size > min(TEXT_BYTES, SAMPLE_BYTES - sample.nbytes):
                    raise InvalidValueError(f"{member.size} bytes are too many")
                value = TEXTS[last](member.read())
                extension_json({suffix: value})
            except (ValueError, RecursionError) as e:
                sample.values.append((member, suffix, InvalidValueError(f"{member.name!r:.200} is not a {last}: {e}")))
            else:
                sample.ext[suffix] = value
                sample.nbytes += member.size
        elif last == "npy" or f".{last}" in SUFFIXES:
            if sample.nbytes + member.size > SAMPLE_BYTES:
                reason = f"a sample must not have more than {SAMPLE_BYTES} bytes, with this file of {member.size}"
                sample.values.append((member, suffix, ImageFileError(reason)))
                return
            content = member.read()
            if last == "npy" and not self._is_picture(content):
                return
            sample.nbytes += member.size
            sample.values.append((member, suffix, content))

    def _is_picture(self, npy: bytes) -> bool:
        """Return whether an array is to be logged; count it if it is of objects."""
        try:
            header = npy_header(npy)
        except ImageFileError:
            return True  # it becomes an error row
        if header.dtype.hasobject:
            self.pickles["npy"] += 1
            return False
        return len(header.shape) == 2 or (len(header.shape) == 3 and header.shape[2] in (1, 3, 4))


def log_array(recording: RecordingStream, entity_path: str, content: bytes, *, kind: Kind, ext: Ext = None) -> None:
    """Log a .npy file as a value of `kind`."""
    array = npy_array(content, recording.settings.pixel_limit)
    if kind == "depth":
        recording.log_depth_image(entity_path, array, ext=ext)
    elif kind == "segmentation":
        recording.log_segmentation_image(entity_path, array, ext=ext)
    else:
        recording.log_image(entity_path, array, ext=ext)


def _names(suffix: str) -> list[str]:
    """Return the parts of a suffix before the last one."""
    return [part for part in suffix.split(".")[:-1] if part]


def _logs(suffix: str) -> tuple[Kind, Callable[..., None]]:
    """Return the kind of a file's value, and the function that logs it."""
    last = suffix.rpartition(".")[2]
    name = (_names(suffix) or [""])[-1]
    kind: Kind = "depth" if name in DEPTH else "segmentation" if name in SEGMENTATION else "image"
    if last in TEXTS:
        return "ext", image_file  # one that could not be read
    if last == "npy":
        return kind, partial(log_array, kind=kind)
    if last in LOSSLESS and kind == "depth":
        return kind, partial(depth_file, meter=METER)
    if last in LOSSLESS and kind == "segmentation":
        return kind, segmentation_file
    return "image", image_file
