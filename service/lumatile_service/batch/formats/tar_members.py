"""The files in a tar archive, one behind the other, as a stream gives them; nothing is written to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lumatile.errors import LumatileError

BUFFER = 1 << 16
"""Bytes read at once. A thousand times as many is the most that gzip makes of them."""

HEADER_BYTES = 1 << 20
"""Longest extended header, of long names for example."""

EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class BrokenArchiveError(LumatileError):
    """An archive that is truncated, corrupt, or none."""


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """A regular file in an archive."""

    name: str
    """As the archive has it: only a name, it may be absolute or have ".."; what is no UTF-8 in it is escaped."""
    size: int
    read: Callable[[], bytes]
    """What it holds; only before the next one is asked for. Raises BrokenArchiveError, OSError."""


def tar_members(stream: Any) -> Iterator[TarMember]:
    """The regular files in `stream`, a binary file, plain or compressed by gzip, bzip2 or xz.

    Raises BrokenArchiveError behind the last whole one, where the archive does not end as it must; OSError.
    """
    last = ""
    try:
        # "r|": never sought in
        with _Archive.open(fileobj=stream, mode="r|*", bufsize=BUFFER, errors="backslashreplace") as archive:
            while (found := archive.next()) is not None:
                archive.members = []  # it would remember all
                if found.isreg():
                    yield TarMember(name=found.name, size=found.size, read=partial(_read, archive, found))
                last = found.name
            whole = archive.whole
    except (tarfile.TarError, EOFError, ValueError) as e:
        raise BrokenArchiveError(f"the archive is truncated or corrupt{_behind(last)}: {e}") from e
    if not whole:
        raise BrokenArchiveError(f"the archive is truncated or corrupt{_behind(last)}: its end is missing")


def _behind(last: str) -> str:
    return f" behind {last!r:.200}" if last else ""


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    if opened is None:
        raise BrokenArchiveError(f"{member.name!r:.200} is no file")
    try:
        content = opened.read()
    except tarfile.TarError as e:
        raise BrokenArchiveError(f"the archive is truncated or corrupt in {member.name!r:.200}: {e}") from e
    if len(content) != member.size:
        raise BrokenArchiveError(f"the archive is truncated in {member.name!r:.200}")
    return content


class _Header(tarfile.TarInfo):
    """A member's header; tells its archive where the end is, which tarfile does not tell from a cut."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and header.size > HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {header.size} bytes is more than {HEADER_BYTES}")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> _Header:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            tarfile_.whole = True
            raise


class _Archive(tarfile.TarFile):
    whole = False
    """Whether the blocks that end an archive have been read."""
    tarinfo = _Header
    members: list[tarfile.TarInfo]
