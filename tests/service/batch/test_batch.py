"""`lumatile ingest`: datasets in their own layouts, real pixels in them; what is stored, and what a second run does."""

import json
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from tests.support.tmpfs import tmpfs
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import FlushError, InvalidValueError
from lumatile.read.verify import verify
from lumatile_service.batch import ingest
from lumatile_service.batch.engine import streams
from lumatile_service.batch.formats import find_reader
from lumatile_service.batch.job import TooManyErrorsError
from lumatile_service.batch.source_files import SourceFiles, natural
from lumatile_service.cli.app import app


@pytest.fixture
def folder(tmp_path):
    """A directory of photographs in many formats, one of them broken and one cut off."""
    root = tmp_path / "photos"
    for directory in ("cats", "space"):
        (root / directory).mkdir(parents=True)
    for i in (0, 1, 2, 10):
        Image.fromarray(np.roll(data.cat(), i, 1)).save(root / "cats" / f"cat{i}.jpg")
    astronaut = Image.fromarray(data.astronaut())
    astronaut.save(root / "space" / "a.png")
    astronaut.save(root / "space" / "b.webp", lossless=True)
    astronaut.save(root / "space" / "c.bmp")
    Image.fromarray(data.moon()).save(root / "space" / "d.tiff")
    whole = (root / "cats" / "cat0.jpg").read_bytes()
    (root / "space" / "e.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "space" / "f.jpg").write_bytes(b"\xff\xd8 nothing")
    Image.fromarray(data.coffee()).save(root / "top.jpg")
    (root / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    astronaut.save(root / ".hidden" / "a.png")
    return root


def recording_of(store, summary):
    return lt.open_store(store).recording(summary.recording_id)


def test_an_image_folder(tmp_path, folder):
    store = tmp_path / "store"
    summary = ingest(folder, store)
    assert (summary.format, summary.values, summary.logged, summary.stored_before) == ("images", 11, 11, 0)
    assert sum(summary.errors.values()) == 2
    assert {uri.rpartition("/")[2] for uri in summary.examples.values()} == {"e.jpg", "f.jpg"}
    recording = recording_of(store, summary)
    assert sorted(recording.entities()) == ["cats", "photos", "space"]
    by_name = {}
    for entity in recording.entities():
        for frame in recording.frames(entity):
            by_name[frame.provenance["uri"].rpartition("/")[2]] = frame
    assert {name: by_name[f"cat{name}.jpg"].times["image"] for name in (0, 1, 2, 10)} == {0: 0, 1: 1, 2: 2, 10: 3}
    for i in (0, 1, 2, 10):
        assert by_name[f"cat{i}.jpg"].source() == (folder / "cats" / f"cat{i}.jpg").read_bytes()
    for name in ("a.png", "b.webp", "c.bmp"):
        np.testing.assert_array_equal(by_name[name].source(), data.astronaut())
    np.testing.assert_array_equal(by_name["d.tiff"].source(), data.moon())
    assert by_name["a.png"].provenance["uri"] == (folder / "space" / "a.png").as_uri()
    assert by_name["e.jpg"].provenance["content_hash"].startswith("blake2b:")
    assert "truncated" in by_name["e.jpg"].error
    assert verify(store).ok


def test_run_again_it_does_what_is_missing_and_notices_what_has_changed(tmp_path, folder):
    store = tmp_path / "store"
    first = ingest(folder, store)
    again = ingest(folder, store)
    assert again.recording_id == first.recording_id
    assert (again.values, again.logged, again.stored_before, again.bytes_out) == (11, 0, 11, 0)
    Image.fromarray(data.coffee()).save(folder / "space" / "g.png")
    Image.fromarray(data.rocket()).save(folder / "cats" / "cat1.jpg")
    third = ingest(folder, store)
    assert (third.values, third.logged, third.stored_before, third.changed) == (12, 2, 10, 1)
    recording = recording_of(store, third)
    assert recording.latest_at("cats", image=1).source() == (folder / "cats" / "cat1.jpg").read_bytes()
    assert len(recording.frames("cats")) == 5, "what was there before stays"


JOB = """
import sys
from lumatile_service.batch import ingest
from lumatile_service.batch.log_call import LogCall
from lumatile_service.batch.engine.call_logger import CallLogger

before = CallLogger.log
def do(self, call, recording):
    before(self, call, recording)
    recording.flush()
    sys.stdout.write(call.uri + "\\n")
    sys.stdout.flush()
CallLogger.log = do
ingest(sys.argv[1], sys.argv[2], threads=2)
"""


def test_killed_at_any_moment_the_next_run_does_what_is_missing_and_stores_each_once(tmp_path):
    root, store = tmp_path / "many", tmp_path / "store"
    root.mkdir()
    for i in range(60):
        Image.fromarray(np.roll(data.cat()[:64, :64], i, 0)).save(root / f"{i}.png")
    rng = np.random.default_rng(0)
    durable = set()
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", JOB, root, store], stdout=subprocess.PIPE, text=True)
        for _ in range(len(durable) + int(rng.integers(2, 12))):  # those before are skipped, and said too
            durable.add(process.stdout.readline().strip())
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        durable.update(line.strip() for line in process.stdout.readlines() if line.endswith("\n"))
        process.stdout.close()
        process.wait()
    summary = ingest(root, store)
    assert (summary.values, summary.logged + summary.stored_before) == (60, 60)
    assert summary.stored_before >= len(durable) > 20
    frames = recording_of(store, summary).frames("many")
    assert sorted(frame.times["image"] for frame in frames) == list(range(60))
    for frame in frames:
        np.testing.assert_array_equal(frame.source(), np.roll(data.cat()[:64, :64], frame.times["image"], 0))
    assert verify(store).ok


@pytest.mark.parametrize(("options", "most"), [({"max_errors": 0}, 0), ({"max_errors": 1}, 1)])
def test_a_job_stops_after_too_many_bad_values_and_goes_on_when_they_are_borne(tmp_path, folder, options, most):
    for i in range(3):
        (folder / "cats" / f"bad{i}.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(TooManyErrorsError, match=rf"stopped after \d+ bad values, more than {most}"):
        ingest(folder, tmp_path / "store", threads=1, **options)
    summary = ingest(folder, tmp_path / "store")
    assert summary.values == 14
    assert sum(summary.errors.values()) == 5
    assert summary.stored_before >= 1


def test_a_bomb_is_refused_from_its_header(tmp_path):
    (tmp_path / "d").mkdir()
    picture = Image.fromarray(np.zeros((8, 8), np.uint8))
    picture.save(tmp_path / "d" / "a.png")
    content = bytearray((tmp_path / "d" / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 65_500, 65_500)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "d" / "bomb.png").write_bytes(content)
    summary = ingest(tmp_path / "d", tmp_path / "store")
    (reason,) = summary.errors
    assert "65500 x 65500" in reason
    assert summary.logged == 2


def test_a_file_that_cannot_be_read_is_an_error_row_and_is_tried_again(tmp_path, folder):
    (folder / "space" / "gone.png").symlink_to(tmp_path / "nowhere")
    calls = find_reader(SourceFiles(folder), None, None)[1](SourceFiles(folder))
    assert len(calls) == 11  # a link to nothing is no file
    (folder / "space" / "gone.png").unlink()
    Image.fromarray(data.coffee()).save(folder / "space" / "gone.png")

    summary = ingest(folder, tmp_path / "store", reader="tests.service.batch.test_batch:reader_whose_file_vanishes")
    assert [reason for reason in summary.errors if "gone.png" in reason]
    Image.fromarray(data.coffee()).save(folder / "space" / "gone.png")
    again = ingest(folder, tmp_path / "store")
    assert (again.logged, again.changed) == (1, 1)
    frame = recording_of(tmp_path / "store", again).latest_at("space", image=6)
    np.testing.assert_array_equal(frame.source(), data.coffee())


def reader_whose_file_vanishes(files):
    calls = find_reader(files, "images", None)[1](files)
    Path(files._root, "space", "gone.png").unlink()
    return calls


def test_a_store_that_cannot_be_written_ends_the_job_at_once(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "store").write_text("a file")
    for i in range(100):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / "d" / f"{i}.png")
    with pytest.raises(FlushError, match=r"^[12] logged values are not durable: the store must be a directory"):
        ingest(tmp_path / "d", tmp_path / "store", threads=1)


def test_a_disk_that_stays_full_ends_the_job_and_says_so(tmp_path, monkeypatch):
    """Calls wait for room in a queue that is much smaller than what is to be stored."""
    monkeypatch.setattr(streams, "PATIENCE", 0.5)
    (tmp_path / "d").mkdir()
    for i in range(60):
        Image.fromarray(np.roll(data.coffee(), i, 0)).resize((1920, 1080)).save(tmp_path / "d" / f"{i}.jpg")
    with tmpfs(tmp_path / "disk", "60m") as disk, pytest.raises(FlushError, match="No space left"):
        ingest(tmp_path / "d", disk / "store", threads=2)


def test_a_source_or_format_that_there_is_not(tmp_path):
    with pytest.raises(InvalidValueError, match="a source must be a directory"):
        ingest(tmp_path / "nowhere", tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidValueError, match="looks like none of the formats"):
        ingest(tmp_path / "empty", tmp_path / "store")
    with pytest.raises(InvalidValueError, match=r"the format must be one of .*, not 'foo'"):
        ingest(tmp_path / "empty", tmp_path / "store", format="foo")
    with pytest.raises(InvalidValueError, match="a reader must be 'module:function'"):
        ingest(tmp_path / "empty", tmp_path / "store", reader="nothing")
    assert not (tmp_path / "store").exists()


def test_numbers_in_names_are_sorted_by_their_values():
    assert sorted(["b10", "b9", "a", "b"], key=natural) == ["a", "b", "b9", "b10"]


def test_the_command(tmp_path, folder):
    run = CliRunner().invoke
    store = str(tmp_path / "store")
    planned = json.loads(run(app, ["ingest", str(folder), "--store", store, "--dry-run", "--json"]).stdout)
    assert planned["values"] == 11
    assert not (tmp_path / "store").exists()
    done = run(app, ["ingest", str(folder), "--store", store, "--json"])
    assert done.exit_code == 1, "there are error rows"
    summary = json.loads(done.stdout)
    assert summary["recording_id"] == planned["recording_id"]
    assert 0.7 < planned["bytes_out"] / summary["bytes_out"] < 1.5
    again = run(app, ["ingest", str(folder), "--store", store])
    strict = run(app, ["ingest", str(folder), "--store", str(tmp_path / "other"), "--strict"])
    assert strict.exit_code == 1
    assert "bad values, more than 0" in strict.stderr
    assert "0 of 11 values logged, 11 were stored before" in again.stdout
    assert "truncated JPEG" in again.stdout
