"""Tar archives as streams: whole, cut, spoilt."""

import io
import tarfile

import pytest
from PIL import Image
from skimage import data

from lumatile_service.batch.formats.tar_members import BrokenArchiveError, tar_members


def encoded(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "png")
    return content.getvalue()


def archive_of(members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, body in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(body)
            archive.addfile(header, io.BytesIO(body))
    return content.getvalue()


def test_an_archive_cut_anywhere_says_so():
    whole = {"0.png": encoded(data.cat()), "1.png": encoded(data.moon()), "1.cls": b"1"}
    content = archive_of(whole)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        begins = [member.offset for member in archive]
        ends = [member.offset_data + member.size for member in archive]
    _, second, third = begins
    for at in (0, 1, 511, 512, 600, second - 1, second, second + 1, second + 512, third, third + 512, third + 1024):
        found = {}
        with pytest.raises(BrokenArchiveError):  # noqa: PT012
            for member in tar_members(io.BytesIO(content[:at])):
                found[member.name] = member.read()
        assert found.items() <= whole.items()
        assert len(found) == sum(at >= end for end in ends)
    assert [member.name for member in tar_members(io.BytesIO(content))] == list(whole)
    for at in begins:  # a header that is none
        spoilt = bytearray(content)
        spoilt[at + 100 : at + 164] = b"\xff" * 64
        with pytest.raises(BrokenArchiveError):
            list(tar_members(io.BytesIO(spoilt)))


def test_a_header_as_large_as_the_file_is_refused():
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    with pytest.raises(BrokenArchiveError, match="an extended header of"):
        list(tar_members(io.BytesIO(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 22))))
