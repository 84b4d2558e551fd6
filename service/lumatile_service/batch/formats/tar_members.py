"""The files in a tar archive, read one after another from a stream; nothing is written to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from lumatile.errors import LumatileError

BUFFER = 1 << 16
"""The number of bytes read at once, which gzip can expand to a thousand times as many."""

HEADER_BYTES = 1 << 20
"""The longest extended header (of long names, for example), in bytes."""

EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class BrokenArchiveError(LumatileError):
    """The archive is truncated or corrupt, or the file is not an archive."""


@dataclass(frozen=True, kw_only=True)
class TarMember:
    """A regular file in an archive."""

    name: str
    """The name as the archive has it: it may be absolute or have ".."; bytes that are not UTF-8 are escaped."""
    size: int
    """The size of the content in bytes."""
    read: Callable[[], bytes]
    """Returns the content; only before the next member is taken. Raises BrokenArchiveError, OSError."""


def tar_members(stream: Any) -> Iterator[TarMember]:
    """Yield the regular files in `stream`, a binary file, plain or compressed by gzip, bzip2 or xz.

    Raises BrokenArchiveError after the last complete file, if the archive does not end as it must; OSError.
    """
    last = ""
    try:
        # "r|": read front to back only
        with _Archive.open(fileobj=stream, mode="r|*", bufsize=BUFFER, errors="backslashreplace") as archive:
            while (found := archive.next()) is not None:
                archive.members = []  # it would keep all of them
                if found.isreg():
                    yield TarMember(name=found.name, size=found.size, read=partial(_read, archive, found))
                last = found.name
            whole = archive.whole
    except (tarfile.TarError, EOFError, ValueError) as e:
        raise BrokenArchiveError(f"the archive is truncated or corrupt{_after(last)}: {e}") from e
    if not whole:
        raise BrokenArchiveError(f"the archive is truncated or corrupt{_after(last)}: its end is missing")


def _after(last: str) -> str:
    return f" after {last!r:.200}" if last else ""


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    if opened is None:
        raise BrokenArchiveError(f"{member.name!r:.200} is not a file")
    try:
        content = opened.read()
    except tarfile.TarError as e:
        raise BrokenArchiveError(f"the archive is truncated or corrupt in {member.name!r:.200}: {e}") from e
    if len(content) != member.size:
        raise BrokenArchiveError(f"the archive is truncated in {member.name!r:.200}")
    return content


class _Header(tarfile.TarInfo):
    """The header of a member. It tells its archive when the end is reached, which tarfile itself takes for a cut."""

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
    """True: the blocks that end the archive have been read."""
    tarinfo = _Header
    members: list[tarfile.TarInfo]
