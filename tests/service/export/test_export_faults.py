"""Exports of bad values and damaged stores, to destinations that exist or are full, and of large recordings."""

import json
import tracemalloc

import numpy as np
import pytest
from tests.support.export_samples import ASTRONAUT, RGBA, flip_a_byte_of, log_pictures, pixels
from tests.support.shards import CAT
from tests.support.tmpfs import tmpfs
from typer.testing import CliRunner

import lumatile as lt
from lumatile.errors import InvalidValueError, NotFoundError
from lumatile_service.cli.app import app
from lumatile_service.export import export, parquet


@pytest.mark.parametrize("format_", ["images", "parquet"])
@pytest.mark.filterwarnings("ignore::lumatile.LumatileWarning")
def test_equal_errors_are_one_reason_whatever_their_entity_paths(tmp_path, log, format_):
    for path in ("site: A/cam", "/cam/", "cam"):
        log.log_image(path, np.zeros((4, 4, 7), np.uint8))
    log.flush()
    exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format=format_)
    ((reason, count),) = exported.left_out.items()
    assert reason.startswith("an error was logged: image must be HxW")
    assert count == exported.errors == 3


@pytest.mark.parametrize("format_", ["images", "parquet"])
def test_error_rows_and_damaged_frames_are_left_out_and_counted(tmp_path, log, format_):
    for frame in range(3):
        log.set_time_sequence("frame", frame)
        log.log_image("rgb", np.roll(ASTRONAUT, frame * 50, 1))
    with pytest.warns(lt.LumatileWarning):
        log.log_image("rgb", np.zeros((4, 4, 7), np.uint8))
    log.log_image_file("jpeg", img_bytes=CAT[: len(CAT) // 2])
    log.log_image("nothing", np.zeros((0, 5), np.uint8))
    log.log_cleared("rgb")
    log.log_extension_components("rgb", {"a": 1})
    log.flush()
    flip_a_byte_of(tmp_path / "runs", np.roll(ASTRONAUT, 50, 1))
    arguments = ["export", str(tmp_path / "runs"), "run-1", str(tmp_path / "out"), "--format", format_]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["frames"], report["errors"], report["format"]) == (2, 3, format_)
    assert sum(report["left_out"].values()) == 6
    reasons = "\n".join(report["left_out"])
    assert "CorruptStoreError" in reasons
    assert "has other bytes than were written" in reasons
    assert "an error was logged: image must be HxW" in reasons
    assert "truncated JPEG" in reasons
    assert "empty image" in reasons
    assert "'clear'" in reasons
    assert "'ext'" in reasons
    if format_ == "images":
        assert sorted(path.name for path in (tmp_path / "out/rgb").iterdir()) == [
            "frame_000000.png",
            "frame_000002.png",
        ]
        np.testing.assert_array_equal(pixels(tmp_path / "out/rgb/frame_000002.png"), np.roll(ASTRONAUT, 100, 1))


def test_a_damaged_segment_is_said(tmp_path, log):
    log.log_image("rgb", ASTRONAUT)
    log.flush()
    (before,) = (tmp_path / "runs" / "run-1" / "frames").iterdir()
    log.log_image("rgb", RGBA)
    log.flush()
    log.disconnect()
    later = [path for path in (tmp_path / "runs" / "run-1" / "frames").iterdir() if path != before]
    for path in later:
        content = path.read_bytes()
        path.write_bytes(content[:100] + b"?" + content[101:])
    with pytest.warns(lt.LumatileWarning, match="a damaged segment is left out"):
        exported = export(tmp_path / "runs", "run-1", tmp_path / "out", format="images")
    assert (exported.frames, exported.errors) == (1, len(later))
    assert all(reason.startswith("a segment is damaged: ") for reason in exported.left_out)


def test_a_destination_that_is_there_is_left_alone(tmp_path, log):
    log.log_image("rgb", ASTRONAUT)
    log.flush()
    store = tmp_path / "runs"
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name in ("file", "full"):
        with pytest.raises(InvalidValueError, match=r"the destination must not exist yet, and .* does"):
            export(store, "run-1", tmp_path / name, format="images")
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    assert export(store, None, tmp_path / "empty", format="images").frames == 1
    assert export(store, None, tmp_path / "new/er", format="parquet").frames == 1
    with pytest.raises(InvalidValueError, match=r"the format must be one of rrd, images, parquet, not 'foo'"):
        export(store, "run-1", tmp_path / "x", format="foo")
    with pytest.raises(InvalidValueError, match=r"not None, which needs a destination that ends with \.rrd"):
        export(store, "run-1", tmp_path / "x.parquet")
    with pytest.raises(InvalidValueError, match="floats must be one of png, npy, not 'exr'"):
        export(store, "run-1", tmp_path / "x", format="images", floats="exr")
    with pytest.raises(NotFoundError, match="has no entity 'rg'; it has"):
        export(store, "run-1", tmp_path / "x", format="images", entities=["rg"])
    with pytest.raises(NotFoundError, match="has no recording 'walk'"):
        export(store, "walk", tmp_path / "x", format="images")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("format_", ["images", "parquet"])
def test_an_export_that_is_interrupted_leaves_nothing(tmp_path, log, format_):
    log_pictures(log)

    def interrupt(done, total):
        assert total == 30
        if done == 10:
            raise KeyboardInterrupt

    (tmp_path / "to").mkdir()
    with pytest.raises(KeyboardInterrupt):
        export(tmp_path / "runs", "run-1", tmp_path / "to" / "out", format=format_, progress=interrupt)
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize("format_", ["images", "parquet", "rrd"])
def test_a_full_disk_is_an_error_and_nothing_is_left_on_it(tmp_path, log, format_):
    log_pictures(log)
    with tmpfs(tmp_path / "disk", "1m") as disk:
        with pytest.raises(OSError, match=r"No space left|os error 28"):
            export(tmp_path / "runs", "run-1", disk / "out", format=format_)
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("format_", ["images", "parquet"])
def test_memory_does_not_grow_with_the_recording(tmp_path, log, monkeypatch, format_):
    monkeypatch.setattr(parquet, "GROUP_BYTES", 4 << 20)
    rng = np.random.default_rng(0)
    for frame in range(60):
        log.set_time_sequence("frame", frame)
        log.log_image("noise", rng.integers(0, 256, (512, 512, 3), np.uint8))  # 786 kB of PNG, 47 MB of all
    log.flush()
    tracemalloc.start()
    try:
        export(tmp_path / "runs", "run-1", tmp_path / "out", format=format_)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30e6, "at most nine frames with their decoded tiles (2 MB), and a row group"
