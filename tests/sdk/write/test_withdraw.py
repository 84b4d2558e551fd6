"""Rows that are taken out are gone for every reader, and nothing else is."""

import numpy as np
import pytest
from tests.sdk.write.test_merge import SETTINGS, segments, texels, write

from lumatile.read.store import open_store
from lumatile.read.verify import verify
from lumatile.storage.local_directory import LocalDirectory
from lumatile.write import withdraw as module
from lumatile.write.withdraw import withdraw
from lumatile.write.writer import SegmentWriter

PRODUCER = b"p" * 16


@pytest.fixture
def store(tmp_path):
    """12 values in 4 segments."""
    target = SegmentWriter(tmp_path, SETTINGS)
    write(target, range(12), values_per_segment=3)
    target.close()
    return tmp_path


def keys(*seqs):
    return {(PRODUCER, seq) for seq in seqs}


def assert_only(store, seqs):
    recording = open_store(store).recording()
    frames = recording.frames("d")
    assert [frame.key[1] for frame in frames] == list(seqs)
    for seq, frame in zip(seqs, frames, strict=True):
        np.testing.assert_array_equal(frame.checked().depth(), texels(seq))
    report = verify(store)
    assert (report.ok, report.frames, report.tiles) == (True, len(seqs), len(seqs))


@pytest.mark.parametrize("gone", [(4,), (3, 4, 5), (0, 4, 11), range(12), (), (77,)])
def test_withdrawn_rows_are_gone_and_all_others_are_there(store, gone):
    withdraw(store, SETTINGS, keys(*gone))
    assert_only(store, [seq for seq in range(12) if seq not in gone])


def test_segments_without_such_rows_are_left_alone(store):
    before = segments(store)
    withdraw(store, SETTINGS, keys(4))
    assert before < segments(store)
    assert len(segments(store) - before) == 1


def test_large_groups_become_several_segments(store, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES", 1)
    before = segments(store)
    withdraw(store, SETTINGS, keys(1, 4, 7))
    assert len(segments(store) - before) == 3
    assert_only(store, [0, 2, 3, 5, 6, 8, 9, 10, 11])


def test_withdrawn_rows_stay_gone_when_others_are_withdrawn_and_merged(store):
    withdraw(store, SETTINGS, keys(1, 4))
    withdraw(store, SETTINGS, keys(0))
    target = SegmentWriter(store, SETTINGS)
    write(target, range(12, 12 + 16))
    target.close()
    assert_only(store, [2, 3, *range(5, 28)])


def test_a_reader_that_knows_withdrawn_rows_reads_on(store):
    recording = open_store(store).recording()
    frames = recording.frames("d")
    withdraw(store, SETTINGS, keys(4))
    np.testing.assert_array_equal(frames[4].depth(), texels(4))
    recording.refresh()
    assert [frame.key[1] for frame in recording.frames("d")] == [0, 1, 2, 3, *range(5, 12)]
    np.testing.assert_array_equal(frames[5].depth(), texels(5))


def test_a_withdrawal_that_fails_changes_nothing(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalDirectory, "commit", full)
    with pytest.raises(OSError, match="No space left"):
        withdraw(store, SETTINGS, keys(4))
    monkeypatch.undo()
    assert_only(store, range(12))


def test_a_damaged_segment_is_left_to_verify(store):
    damaged = min((store / "run" / "frames").iterdir())
    damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
    withdraw(store, SETTINGS, keys(4))
    with pytest.warns(UserWarning, match="damaged"):
        frames = open_store(store).recording().frames("d")
    assert [frame.key[1] for frame in frames] == [3, *range(5, 12)]
