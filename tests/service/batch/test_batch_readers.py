"""Readers of one's own: the values they list, the errors they meet, and the contexts they color by."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import lumatile as lt
from lumatile_service.batch import LogCall, ingest
from lumatile_service.batch.formats.contents import segmentation_png


def recording_of(store, summary):
    return lt.open_store(store).recording(summary.recording_id)


def own_reader(files):
    """A reader of one's own: gray values from text."""
    for path in files.under("", ".txt"):
        yield LogCall(
            entity_path="text",
            kind="image",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=lambda recording, entity, content: recording.log_image(
                entity, np.array([line.split() for line in content.decode().splitlines()], np.uint8)
            ),
            times={"when": 7},
        )


def test_a_reader_of_ones_own(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("1 2 3\n4 5 6\n")
    (tmp_path / "d" / "b.txt").write_text("1 x\n")
    summary = ingest(tmp_path / "d", tmp_path / "store", reader="tests.service.batch.test_batch_readers:own_reader")
    assert list(summary.errors.values()) == [1]
    good, bad = recording_of(tmp_path / "store", summary).frames("text")
    if good.error:
        good, bad = bad, good
    np.testing.assert_array_equal(good.source(), [[1, 2, 3], [4, 5, 6]])
    assert good.times["when"] == np.datetime64(7, "ns")
    assert "ValueError" in bad.error or "invalid literal" in bad.error


def bad_reader(files):
    """Values that cannot be logged, and values that cannot be read, each at three paths."""
    for path in ("site: A/cam", "/cam/", "cam"):
        yield LogCall(
            entity_path=path,
            kind="image",
            uri=files.url,
            read=lambda: b"",
            log=lambda recording, entity, _: recording.log_image(entity, np.zeros((4, 4, 7), np.uint8)),
        )
        yield LogCall(
            entity_path=path, kind="image", uri=files.url, member="gone", read=lambda: {}["gone"], log=segmentation_png
        )


def test_an_error_row_has_the_reason_alone_and_equal_reasons_are_counted_together(tmp_path):
    (tmp_path / "d").mkdir()
    summary = ingest(tmp_path / "d", tmp_path / "store", reader="tests.service.batch.test_batch_readers:bad_reader")
    recording = recording_of(tmp_path / "store", summary)
    assert recording.entities() == ["cam", "site: A/cam"]
    (shape,) = {reason for reason in summary.errors if reason.startswith("image must be HxW")}
    assert summary.errors == {shape: 3, "KeyError: 'gone'": 3}
    assert summary.examples.keys() == summary.errors.keys()
    assert {frame.error for path in recording.entities() for frame in recording.frames(path)} == summary.errors.keys()


def labelled_reader(files):
    """Class ids, behind the colors of the classes."""
    yield LogCall(
        entity_path="labels",
        kind="annotation_context",
        uri=files.uri("classes"),
        read=lambda: b"1 coin",
        log=lambda recording, entity, _: recording.log_annotation_context(entity, (1, "coin", (200, 100, 0))),
    )
    for number, path in enumerate(files.under("", ".png")):
        yield LogCall(
            entity_path="labels/ids",
            kind="segmentation",
            uri=files.uri(path),
            read=lambda path=path: files.read(path),
            log=segmentation_png,
            sequences={"frame": number},
        )


def test_a_context_colors_also_what_a_later_run_logs(tmp_path):
    root, store, reader = tmp_path / "d", tmp_path / "store", "tests.service.batch.test_batch_readers:labelled_reader"
    root.mkdir()
    ids = (data.coins() > 100).astype(np.uint8)
    for number in range(6):
        Image.fromarray(np.roll(ids, number, 1)).save(root / f"{number}.png")
        if number in (0, 5):
            summary = ingest(root, store, reader=reader, threads=3)
    assert (summary.logged, summary.stored_before) == (5, 2)
    table = recording_of(store, summary).frames_table()
    assert table["kind"].to_pylist().count("annotation_context") == 1
    assert len({hash_ for hash_ in table["palette_hash"].to_pylist() if hash_}) == 1
    for frame in recording_of(store, summary).frames("labels/ids"):
        np.testing.assert_array_equal(frame.source(), np.roll(ids, frame.times["frame"], 1))
        assert {tuple(color) for color in frame.colors()[frame.ids() == 1]} == {(200, 100, 0, 255)}


def test_the_reader_of_the_guide(tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "batch.md").read_text()
    (code,) = re.findall(r"```py\n(# my_formats.py\n.*?)```", guide, re.DOTALL)
    (command,) = re.findall(r"lumatile (ingest data --store runs --reader my_formats:thermal)\n", guide)
    (tmp_path / "my_formats.py").write_text(code)
    (tmp_path / "data" / "scans").mkdir(parents=True)
    scans = np.random.default_rng(0).integers(0, 65536, (2, 480, 640), np.uint16)
    for i, scan in enumerate(scans):
        scan.tofile(tmp_path / "data" / "scans" / f"{i}.raw")
    script = "from lumatile_service.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for frame in lt.open_store(tmp_path / "runs").recording().frames("camera/thermal"):
        np.testing.assert_array_equal(frame.source(), scans[frame.times["frame"]])
