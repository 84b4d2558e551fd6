"""The directory of one spool: a lock that says who has it, a description of its recording, and its segments.

<root>/<32 random hex digits>/lock                   locked (flock) while a process writes or sends the spool
<root>/<32 random hex digits>/spool.json             the URL of its sink, the settings of its recording, and the process
                                                     that writes it with its ancestors
<root>/<32 random hex digits>/<8 digits>.segment     records, see record.py
<root>/<32 random hex digits>/<8 digits>.damaged     a segment of which not everything could be sent
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lumatile.errors import SinkError
from lumatile.settings import RecordingSettings
from lumatile.storage.durable_files import sync_directory
from lumatile_kernels import fork

log = logging.getLogger(__name__)

VERSION = 1

_SEGMENT = re.compile(r"(\d{8,})\.segment")
_NAME = re.compile(r"[0-9a-f]{32}")

_HELD: set[int] = set()
"""The open files of this process's spools. A forked child closes them: it must not hold its parent's locks."""


class SpoolError(SinkError):
    """A directory is not a spool that can be read."""


class SpoolBusyError(SpoolError):
    """A process that is alive writes or sends the spool."""


class HeldFile:
    """An open file that is closed in forked children."""

    def __init__(self, path: Path, flags: int) -> None:
        """Open it. Raises OSError."""
        self.fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        """The file's descriptor."""
        self._process = os.getpid()
        _HELD.add(self.fd)

    def close(self) -> None:
        """Close it; may be called twice."""
        if self._process == os.getpid():
            self._process = 0
            _HELD.discard(self.fd)
            os.close(self.fd)


def _in_child() -> None:
    for fd in _HELD:
        with suppress(OSError):
            os.close(fd)
    _HELD.clear()


fork.at_fork(in_child=_in_child)


class SpoolDirectory:
    """A spool's directory, locked by this process until `close`."""

    def __init__(self, path: Path, url: str, settings: RecordingSettings, lock: HeldFile) -> None:
        """Take a directory that is locked already; `create` and `adopt` make and find them."""
        self.path = path
        self.url = url
        """The URL of the service that the values are for."""
        self.settings = settings
        """The settings of the recording that the values are part of."""
        self._lock = lock

    @staticmethod
    def create(root: Path, url: str, settings: RecordingSettings, *, synced: bool = True) -> SpoolDirectory:
        """Make a new directory under `root`, which is made as well if it is missing.

        `synced`: so that it survives the machine's end. Raises OSError.
        """
        about = {
            "version": VERSION,
            "url": url,
            "settings": asdict(settings),
            "pid": os.getpid(),
            "ancestors": fork.ancestors(),
        }
        missing = [path for path in (root, *root.parents) if not path.is_dir()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
        path = root / secrets.token_hex(16)
        path.mkdir(mode=0o700)
        lock = _locked(path, os.O_CREAT)
        try:
            with (path / "spool.new").open("x") as file:
                json.dump(about, file)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            (path / "spool.new").rename(path / "spool.json")
            if synced:
                for folder in (path, root, *(each.parent for each in missing)):
                    sync_directory(folder)
        except BaseException:
            with suppress(OSError):
                for name in ("spool.new", "spool.json", "lock"):
                    (path / name).unlink(missing_ok=True)
                path.rmdir()
            lock.close()
            raise
        return SpoolDirectory(path, url, settings, lock)

    @staticmethod
    def adopt(path: Path) -> SpoolDirectory:
        """Lock the directory at `path`, of a process that has ended.

        Raises:
            SpoolBusyError: a process that is alive has locked it.
            SpoolError: it is not a spool that can be read.
        """
        url, settings = describe(path)
        try:
            lock = _locked(path)
        except BlockingIOError as e:
            raise SpoolBusyError(f"{path} is the spool of a process that is alive") from e
        except OSError as e:
            raise SpoolError(f"{path} cannot be locked: {e}") from e
        try:
            describe(path)  # another process may have sent and removed it just now
        except BaseException:
            lock.close()
            raise
        return SpoolDirectory(path, url, settings, lock)

    def segments(self) -> dict[int, int]:
        """Return the number of each segment -> its bytes, in order. Raises OSError."""
        return segments_in(self.path)

    def segment(self, number: int) -> Path:
        """Return the path of a segment's file."""
        return self.path / f"{number:08d}.segment"

    def keep_damaged(self, number: int) -> Path:
        """Rename a segment of which not everything could be sent, and return its new path. Raises OSError."""
        return self.segment(number).rename(self.path / f"{number:08d}.damaged")

    def close(self) -> None:
        """Release the directory to other processes; remove it if nothing is left in it. Never raises OSError."""
        with suppress(OSError):
            if {entry.name for entry in self.path.iterdir()} <= {"lock", "spool.json"}:
                (self.path / "spool.json").unlink()
                (self.path / "lock").unlink()
                self.path.rmdir()
        self._lock.close()


def describe(path: Path) -> tuple[str, RecordingSettings]:
    """Return the URL of the service, and the settings of the recording, that a spool is for. Raises SpoolError."""
    try:
        about: dict[str, Any] = json.loads((path / "spool.json").read_bytes())
        version = about["version"]
        known = version == VERSION
        described = (str(about["url"]), RecordingSettings(**about["settings"])) if known else None
    except FileNotFoundError as e:
        raise SpoolError(f"{path} is not a spool: it has no spool.json") from e
    except (OSError, ValueError, TypeError, KeyError) as e:
        raise SpoolError(f"{path} is not a spool that can be read: {type(e).__name__}: {e}") from e
    if described is None:
        raise SpoolError(f"{path} is a spool of version {version!r:.20}; this package reads version {VERSION}")
    return described


def written_by(path: Path) -> tuple[int, tuple[int, ...]]:
    """Return the id of the process that writes the spool at `path`, and those of its ancestors. Raises SpoolError."""
    try:
        about: dict[str, Any] = json.loads((path / "spool.json").read_bytes())
        return int(about.get("pid", 0)), tuple(int(each) for each in about.get("ancestors", ()))
    except (OSError, ValueError, TypeError) as e:
        raise SpoolError(f"{path} is not a spool that can be read: {type(e).__name__}: {e}") from e


def segments_in(path: Path) -> dict[int, int]:
    """Return the number of each segment in a spool's directory -> its bytes, in order. Raises OSError."""
    found = [(int(m[1]), entry) for entry in path.iterdir() if (m := _SEGMENT.fullmatch(entry.name)) is not None]
    sizes = {}
    for number, entry in sorted(found):
        with suppress(FileNotFoundError):  # the process that writes it has just deleted it
            sizes[number] = entry.stat().st_size
    return sizes


def spools(root: Path) -> Iterator[Path]:
    """Yield the directories of this user's spools under `root`."""
    try:
        entries = sorted(entry for entry in root.iterdir() if _NAME.fullmatch(entry.name))
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            if entry.stat().st_uid == os.geteuid() and (entry / "spool.json").exists():
                yield entry


def _locked(path: Path, flags: int = 0) -> HeldFile:
    """Open and lock the lock file of a spool. Raises BlockingIOError if another process has locked it, OSError."""
    with fork.LOCK:  # no fork before it is known that a child has to close it
        lock = HeldFile(path / "lock", os.O_RDWR | flags)
    try:
        fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        lock.close()
        raise
    return lock
