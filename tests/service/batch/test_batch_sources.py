"""What there is in real directories: links, other encodings, files that nobody may read; and sources that are none."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

import lumatile as lt
from lumatile.errors import InvalidValueError
from lumatile_service.batch import SourceFiles, ingest
from lumatile_service.batch.formats.parquet import read as read_parquet
from lumatile_service.batch.job import derived_id


def put(root, *names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(root / name)


def recording_of(store):
    return lt.open_store(store).recording()


def test_a_source_is_the_same_however_its_path_is_written(tmp_path, monkeypatch):
    put(tmp_path / "a/photos", "1.png")
    (tmp_path / "a/b").mkdir()
    monkeypatch.chdir(tmp_path / "a/b")
    monkeypatch.setenv("HOME", str(tmp_path / "a"))
    url = (tmp_path / "a/photos").as_uri()
    for written in (
        "../photos",
        "../b/../photos/",
        str(tmp_path / "a/photos"),
        url,
        url + "/",
        "~/photos",
        "./../photos",
    ):
        files = SourceFiles(written)
        assert (files.url, files.name) == (url, "photos"), written
        assert derived_id(files) == derived_id(SourceFiles(tmp_path / "a/photos"))
        assert len(files.read("1.png")) == files.sizes["1.png"]


def test_a_link_keeps_its_name_and_what_is_above_a_linked_directory_is_found(tmp_path):
    put(tmp_path / "real/deep", "1.png")
    put(tmp_path / "real/other", "2.png")
    (tmp_path / "photos").symlink_to(tmp_path / "real/deep")
    assert SourceFiles(tmp_path / "photos").name == "photos"
    files = SourceFiles(f"{tmp_path}/photos/../other")
    assert list(files.sizes) == ["2.png"]
    assert files.url == (tmp_path / "real/other").resolve().as_uri()


def test_a_link_to_a_directory_above_it_is_left_out_and_said(tmp_path):
    put(tmp_path / "d", "a/1.png", "b/2.png")
    (tmp_path / "d/again").symlink_to(".")
    (tmp_path / "d/a/up").symlink_to(tmp_path / "d")
    (tmp_path / "d/a/beside").symlink_to(tmp_path / "d/b")
    files = SourceFiles(tmp_path / "d")
    sizes = files.sizes
    assert sorted(files.left_out["links to a directory above them"]) == ["a/up", "again"]
    assert list(sizes) == ["a/1.png", "a/beside/2.png", "b/2.png"]


def test_links_to_nothing_are_said(tmp_path):
    put(tmp_path / "d", "1.png")
    (tmp_path / "d/gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d/circle.png").symlink_to("circle.png")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.logged, summary.left_out) == (1, {"links to nothing": 2})


def test_names_that_are_not_utf_8_are_read_and_escaped(tmp_path):
    put(tmp_path / "d", "1.png", "r\udce9/b\udcff.png")
    (tmp_path / "d/r\udce9adme.txt").write_text("x")
    files = SourceFiles(tmp_path / "d")
    assert list(files.sizes) == ["1.png", "r\\xe9/b\\xff.png", "r\\xe9adme.txt"]
    with files.open("r\\xe9/b\\xff.png") as opened:
        assert opened.read() == files.read("r\\xe9/b\\xff.png")
    summary = ingest(tmp_path / "d", tmp_path / "store")
    assert (summary.logged, summary.errors) == (2, {})
    frame = recording_of(tmp_path / "store").latest_at("r\\xe9", image=0)
    assert frame.source()[0, 0, 0] == 1
    assert frame.provenance["uri"] == (tmp_path / "d").as_uri() + "/r\\xe9/b\\xff.png"
    assert ingest(tmp_path / "d", tmp_path / "store").stored_before == 2


def test_a_source_whose_own_name_is_not_utf_8(tmp_path):
    put(tmp_path / "d\udce9", "1.png")
    summary = ingest(tmp_path / "d\udce9", tmp_path / "store")
    assert (summary.logged, summary.errors) == (1, {})
    assert recording_of(tmp_path / "store").entities() == ["d\\xe9"]
    single = SourceFiles(tmp_path / "d\udce9/1.png")
    assert list(single.sizes) == ["1.png"]


def test_a_parquet_file_whose_name_is_not_utf_8_is_opened(tmp_path):
    content = Path(tmp_path / "a.parquet")
    put(tmp_path / "x", "1.png")
    pyarrow.parquet.write_table(pa.table({"image": [(tmp_path / "x/1.png").read_bytes()]}), content)
    (tmp_path / "d").mkdir()
    content.rename(tmp_path / "d/\udce9.parquet")
    (call,) = read_parquet(SourceFiles(tmp_path / "d"))
    assert call.read() == (tmp_path / "x/1.png").read_bytes()


@pytest.mark.parametrize("broken", [True, False])
def test_an_unreadable_directory_is_an_error_row_until_it_can_be_read(tmp_path, monkeypatch, broken):
    """As lost+found is for anyone but root."""
    put(tmp_path / "d", "1.png", "lost/2.png")
    store = tmp_path / "store"
    if not broken:
        ingest(tmp_path / "d", store)
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("lost"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    summary = ingest(tmp_path / "d", store, prune=True)
    assert summary.errors == {"OSError: the directory cannot be listed: PermissionError: Permission denied": 1}
    assert list(summary.examples.values()) == [(tmp_path / "d/lost").as_uri()]
    assert recording_of(store).latest_at("d", image=0) is not None
    assert (recording_of(store).latest_at("lost", image=0) is None) == broken, "what was stored before stays"
    monkeypatch.undo()
    assert ingest(tmp_path / "d", store).errors == {}


def test_an_empty_source_or_store_is_refused(tmp_path):
    put(tmp_path / "d", "1.png")
    with pytest.raises(InvalidValueError, match=r'a source must be .*, not ""'):
        SourceFiles("")
    with pytest.raises(InvalidValueError, match=r'a store must be .*, not ""'):
        ingest(tmp_path / "d", "")


def test_a_source_of_another_package_says_so():
    with pytest.raises(InvalidValueError, match=r"hf:// needs another package: .*huggingface_hub"):
        SourceFiles("hf://datasets/someone/something")


def test_google_cloud_storage_is_not_tried_for_ever(monkeypatch):
    monkeypatch.setattr("lumatile_service.batch.source_files.RETRY_SECONDS", 1)
    began = time.monotonic()
    with pytest.raises(InvalidValueError, match="gs://anonymous@no-such-bucket/x"):
        SourceFiles("gs://anonymous@no-such-bucket/x")
    assert time.monotonic() - began < 60
