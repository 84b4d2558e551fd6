"""WebDataset shards that want more than to be read."""

import io
import os
import pickle
import sys
import tarfile

import numpy as np
from tests.support.shards import CAT, PHOTOS, frames_of, npy, write

import lumatile as lt
from lumatile_service.batch import ingest
from lumatile_service.batch.formats import webdataset


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickles_are_never_loaded(tmp_path):
    made = tmp_path / "made"
    poison = pickle.dumps(Malice(made))
    objects = np.empty((2, 2), object)
    objects[:] = Malice(made)
    members = [("0.jpg", CAT)]
    members += [(f"{i}.{suffix}", poison) for i in range(2) for suffix in ("pyd", "pkl", "pickle", "pth")]
    members += [
        ("2.x.npy", npy(objects, allow_pickle=True)),
        ("2.jpg", poison),
        ("2.json", poison),
        ("2.y.npy", poison),
    ]
    write(tmp_path / "d" / "0.tar", members)
    write(tmp_path / "first" / "0.tar", members[:1])
    ingest(tmp_path / "first", tmp_path / "store")  # numba unpickles its own cache at first
    seen = []
    sys.addaudithook(lambda event, _: seen.append(event) if event == "pickle.find_class" and recording else None)
    recording = True
    try:
        summary = ingest(tmp_path / "d", tmp_path / "store")
    finally:
        recording = False
    assert not made.exists()
    assert not seen
    rows = lt.open_store(tmp_path / "store").recording(summary.recording_id).frames("d")
    assert {frame.provenance["member"]: frame.error for frame in rows} == {
        f"{count} files *.{suffix}": f"a .{suffix} file is a pickle, which is never loaded"
        for count, suffix in ((1, "npy"), (2, "pickle"), (2, "pkl"), (2, "pth"), (2, "pyd"))
    }
    assert frames_of(tmp_path / "store", summary)[0].source() == CAT
    again = ingest(tmp_path / "d", tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, again.values)
    pickle.loads(poison)
    assert made.exists(), "who loads one makes it"


def test_names_are_only_names(tmp_path):
    names = ["/etc/0.jpg", "../../1.jpg", "./2.jpg", "a/../3.jpg", "4.\u202e\x01..jpg", "5." + "x" * 2000 + ".jpg"]
    source = write(tmp_path / "in" / "d" / "0.tar", [(name, PHOTOS[i % 4]) for i, name in enumerate(names)])
    with tarfile.open(source, "a", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        header = tarfile.TarInfo("6\xff.jpg")
        header.size = len(CAT)
        archive.addfile(header, io.BytesIO(CAT))
        link = tarfile.TarInfo("7.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    summary = ingest(source.parent, tmp_path / "store")
    assert (summary.values, summary.errors) == (7, {})
    after = [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "store" not in (path, *path.parents)]
    assert after == before, "nothing is written but the store"
    recording = lt.open_store(tmp_path / "store").recording(summary.recording_id)
    assert recording.entities() == ["image"]
    members = {frame.provenance["member"] for frame in recording.frames("image")}
    assert members == {*names, "6\\xff.jpg"}
    again = ingest(source.parent, tmp_path / "store")
    assert (again.logged, again.stored_before) == (0, 7)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "SAMPLE_BYTES", len(CAT) + 10)
    monkeypatch.setattr(webdataset, "TEXT_BYTES", 5)
    write(tmp_path / "d" / "0.tar", [("0.jpg", CAT), ("0.b.jpg", PHOTOS[0]), ("0.txt", b"123456"), ("0.cls", b"3")])
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.values, sum(summary.errors.values())) == (3, 2)
    assert any("a sample must not have more than" in reason for reason in summary.errors)
    assert frames_of(tmp_path / "store", summary)[0].ext == {"key": "0", "cls": 3}
