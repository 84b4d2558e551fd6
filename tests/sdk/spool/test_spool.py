"""A spool: what is appended is read, exactly and in order, whatever happens to its writer, its disk and its bits.

Longer than other files: its tests share the values, and the comparison of what was kept.
"""

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from tests.support.strace import faulty, needs_strace
from tests.support.tmpfs import tmpfs

import lumatile as lt
from lumatile.settings import RecordingSettings
from lumatile.sink.memory import VALUES
from lumatile.spool import writer as spool_writer
from lumatile.spool.directory import SpoolBusyError, SpoolDirectory, SpoolError, spools
from lumatile.spool.record import HEADER_BYTES
from lumatile.spool.spool import Spool
from lumatile.spool.writer import SpoolFullError
from lumatile.wire import decoding, encoding
from lumatile.wire.decoding import Decoder, Limits

SETTINGS = RecordingSettings(application_id="app", recording_id="run")
URL = "grpc://127.0.0.1:1"


@pytest.fixture
def values(name):
    """Twelve values of the same size, from 0."""
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True)
    for i in range(12):
        recording.log_image("a", np.full((40, 50, 3), i, np.uint8))
    return VALUES[name]


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path, URL, SETTINGS)
    yield spool
    spool.close()


def received(spool):
    """What a spool sends."""
    decoder, found = Decoder(Limits()), []
    while (unit := spool.next()) is not None:
        for batch in unit.batches:
            found += decoder.decode(batch)
    return found


def die(spool):
    """What is left when a process dies: its lock is not held any more."""
    spool._directory._lock.close()
    return spool.path


def seqs(values):
    return [value.seq for value in values]


def segment(path, number=1):
    return path / f"{number:08d}.segment"


def assert_equal(found, expected):
    assert seqs(found) == seqs(expected)
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value.array, other.array)
        assert (value.time.log_time, value.entity_path) == (other.time.log_time, other.entity_path)


def test_what_was_appended_is_sent_in_order_by_its_writer_and_by_the_next_process(spool, values):
    assert [spool.append(values[i : i + 4]) for i in (0, 4, 8)] == [4, 4, 4]
    assert_equal(received(spool), values)
    adopted = Spool.adopt(die(spool))
    assert (adopted.url, adopted.settings) == (URL, SETTINGS)
    assert_equal(received(adopted), values)
    adopted.close()


def test_large_values_come_in_parts_and_segments_stay_small(spool, values, monkeypatch):
    for module in (decoding, encoding):
        monkeypatch.setattr(module, "PART_BYTES", 1000)
    monkeypatch.setattr("lumatile.spool.record.BATCH_BYTES", 100)
    monkeypatch.setattr(spool_writer, "SEGMENT_BYTES", 4000)
    spool.append(values)
    sizes = [file.stat().st_size for file in spool.path.glob("*.segment")]
    assert len(sizes) > 20
    assert max(sizes) <= 4000
    assert_equal(received(spool), values)
    for value in values[:6]:
        assert spool.acknowledge(value.producer, value.seq)
    assert not spool.acknowledge(values[0].producer, values[0].seq)
    spool.tidy()
    assert len(list(spool.path.glob("*.segment"))) <= len(sizes) // 2 + 1
    spool.rewind()
    assert_equal(received(spool), values[6:])


def test_a_segment_is_deleted_when_all_of_it_is_acknowledged_and_the_directory_with_the_last(spool, values):
    spool.append(values)
    path = spool.path
    received(spool)
    for value in reversed(values):
        assert segment(path).exists()
        assert spool.done < spool.end
        spool.acknowledge(value.producer, value.seq)
        spool.tidy()
    assert spool.done == spool.end
    assert not segment(path).exists()
    spool.append(values[:1])  # it goes on, in a new segment
    assert segment(path, 2).exists()
    spool.rewind()
    assert_equal(received(spool), values[:1])
    spool.acknowledge(values[0].producer, 0)
    spool.close()
    assert not path.exists()


def test_what_was_sent_before_it_was_spooled_is_not_sent_again_unless_the_link_dies(spool, values):
    spool.append(values[:5], sent=True)
    spool.append(values[5:8])
    assert_equal(received(spool), values[5:8])
    for value in values[:3]:
        assert spool.acknowledge(value.producer, value.seq)
    spool.rewind()
    assert_equal(received(spool), values[:8])  # a record is sent whole


@pytest.mark.parametrize("left", [1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 100])
def test_a_torn_record_at_the_end_is_cut_off_and_no_damage(spool, values, left):
    spool.append(values[:4])
    whole = segment(spool.path).stat().st_size
    spool.append(values[4:5])
    path = die(spool)
    os.truncate(segment(path), whole + left)
    adopted = Spool.adopt(path)
    assert_equal(received(adopted), values[:4])
    assert adopted.done < adopted.end
    assert adopted.damaged == 0
    for value in values[:4]:
        adopted.acknowledge(value.producer, value.seq)
    adopted.close()
    assert not path.exists()


def test_zeros_at_the_end_are_torn_too(spool, values):
    spool.append(values[:4])
    path = die(spool)
    os.truncate(segment(path), segment(path).stat().st_size + 5000)  # what power failures leave
    adopted = Spool.adopt(path)
    assert_equal(received(adopted), values[:4])
    assert adopted.damaged == 0
    adopted.close()


@pytest.mark.parametrize("where", ["length", "magic", "body", "crc"])
def test_flipped_bits_in_the_middle_cost_their_record_which_is_said_counted_and_kept_aside(
    spool, values, caplog, where
):
    ends = []
    for i in range(0, 12, 3):
        spool.append(values[i : i + 3])
        ends.append(segment(spool.path).stat().st_size)
    path = die(spool)
    with segment(path).open("r+b") as file:
        file.seek(ends[0] + {"magic": 3, "crc": 12, "length": 16, "body": HEADER_BYTES + 900}[where])
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x10]))
    adopted = Spool.adopt(path)
    found = received(adopted)
    assert_equal(found, values[:3] + values[6:])
    assert adopted.damaged == 3
    assert caplog.text.count("damaged at byte") == 1
    adopted.rewind()
    received(adopted)
    assert adopted.damaged == 3  # counted once
    for value in found:
        adopted.acknowledge(value.producer, value.seq)
    adopted.close()
    assert [file.name for file in path.glob("*.damaged")] == ["00000001.damaged"]
    assert not segment(path).exists()


def test_flipped_bits_in_a_part_cost_the_whole_value_and_nothing_else(spool, values, monkeypatch):
    for module in (decoding, encoding):
        monkeypatch.setattr(module, "PART_BYTES", 1000)
    monkeypatch.setattr("lumatile.spool.record.BATCH_BYTES", 100)
    spool.append(values[:4])
    path = die(spool)
    size = segment(path).stat().st_size
    with segment(path).open("r+b") as file:
        file.seek(size * 3 // 8)
        file.write(b"12345678")
    adopted = Spool.adopt(path)
    assert_equal(received(adopted), [values[0], *values[2:4]])
    assert adopted.damaged == 1
    adopted.close()


def test_a_segment_that_is_gone_is_damage(spool, values, monkeypatch):
    monkeypatch.setattr(spool_writer, "SEGMENT_BYTES", 10_000)
    for value in values[:6]:
        spool.append([value])
    segment(spool.path, 3).unlink()
    found = received(spool)
    assert spool.damaged == 6 - len(found) > 0


def test_the_cap_is_kept_and_there_is_room_again_when_values_are_acknowledged(tmp_path, values, monkeypatch):
    monkeypatch.setattr("lumatile.spool.record.BATCH_BYTES", 100)
    spool = Spool(tmp_path, URL, SETTINGS, capacity=30_000)
    taken = spool.append(values)
    assert 3 < taken < 6
    with pytest.raises(SpoolFullError, match="as many bytes wait in the spool as it may hold"):
        spool.append(values[taken:])
    assert spool.nbytes <= 30_000
    assert_equal(received(spool), values[:taken])
    for value in values[:taken]:
        spool.acknowledge(value.producer, value.seq)
    spool.tidy()
    assert spool.append(values[taken : taken + 2]) == 2
    assert_equal(received(spool), values[taken : taken + 2])
    spool.close()


def test_some_of_the_disk_stays_free(spool, values, monkeypatch):
    monkeypatch.setattr(spool_writer, "FLOOR_BYTES", 1 << 60)
    monkeypatch.setattr(spool_writer, "FLOOR_PART", 1)
    with pytest.raises(SpoolFullError, match=r"\d+ bytes are free at .*, and \d+ are to stay free"):
        spool.append(values)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    with tmpfs(tmp_path / "disk", "1m") as mount:
        yield mount


def test_a_full_disk_takes_what_fits_and_goes_on_when_there_is_room(small_disk, values, monkeypatch):
    monkeypatch.setattr(spool_writer, "FLOOR_PART", 1 << 60)
    monkeypatch.setattr("lumatile.spool.record.BATCH_BYTES", 100)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((1 << 20) - 60_000))
    spool = Spool(small_disk, URL, SETTINGS)
    taken = spool.append(values)
    assert 0 < taken < 12
    with pytest.raises(OSError, match=r"No space left|bytes are free"):
        spool.append(values[taken:])
    ballast.unlink()
    assert spool.append(values[taken:]) == 12 - taken
    assert_equal(received(Spool.adopt(die(spool))), values)


@pytest.mark.parametrize("call", ["fsync", "pwritev"])
@pytest.mark.parametrize("when", [1, 2, 3, 4, 5])
def test_a_call_that_fails_is_an_error_and_what_is_appended_again_is_there(spool, values, monkeypatch, call, when):
    spool.append(values[:2])
    real, calls = getattr(os, call), []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == when:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(os, call, failing)
    for i in range(2, 12, 2):
        try:
            spool.append(values[i : i + 2])
        except OSError as e:
            assert e.errno == errno.EIO  # noqa: PT017
            spool.append(values[i : i + 2])
    assert len(calls) > when
    assert_equal(received(spool), values)
    adopted = Spool.adopt(die(spool))
    assert_equal(received(adopted), values)
    assert adopted.damaged == 0
    adopted.close()


def test_a_spool_is_its_writers_alone_even_when_that_has_forked(spool, values):
    spool.append(values[:3])
    with pytest.raises(SpoolBusyError, match="the spool of a process that is alive"):
        Spool.adopt(spool.path)
    reads, writes = os.pipe()
    ready, says = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writes)
        os.write(says, b"!")
        os.read(reads, 1)  # outlives the parent's hold on the spool
        os._exit(0)
    os.close(reads)
    assert os.read(ready, 1) == b"!"
    with pytest.raises(SpoolBusyError):
        Spool.adopt(spool.path)
    adopted = Spool.adopt(die(spool))
    assert_equal(received(adopted), values[:3])
    adopted.close()
    for end in (writes, ready, says):
        os.close(end)
    assert os.waitpid(pid, 0)[1] == 0


def test_what_is_no_spool_is_one_clear_error(tmp_path, spool, values):
    with pytest.raises(SpoolError, match=r"is not a spool: it has no spool\.json"):
        Spool.adopt(tmp_path)
    spool.append(values[:1])
    path = die(spool)
    about = json.loads((path / "spool.json").read_text())
    for change, message in (
        ({"version": 9}, "version 9"),
        ({"settings": {"a": 1}}, "TypeError"),
        ({"url": ...}, "url"),
    ):
        changed = {name: entry for name, entry in (about | change).items() if entry is not ...}
        (path / "spool.json").write_text(json.dumps(changed))
        with pytest.raises(SpoolError, match=message):
            Spool.adopt(path)
    (path / "spool.json").write_text(json.dumps(about))


def test_only_ones_own_spools_are_found_and_nobody_else_can_read_them(tmp_path, spool, values):
    spool.append(values[:1])
    (tmp_path / "something").mkdir()
    (tmp_path / ("0" * 32)).mkdir()
    assert list(spools(tmp_path)) == [spool.path]
    assert spool.path.stat().st_mode & 0o777 == 0o700
    assert segment(spool.path).stat().st_mode & 0o777 == 0o600
    assert list(spools(tmp_path / "nowhere")) == []


WRITER = """
import sys
from pathlib import Path

import numpy as np

import lumatile as lt
from lumatile.spool import writer as spool_writer
from lumatile.sink.memory import VALUES
from lumatile.settings import RecordingSettings
from lumatile.spool.spool import Spool

spool_writer.SEGMENT_BYTES = 40_000
recording = lt.new_recording("app", "run", sink="memory://x", strict=True)
for i in range(30):
    recording.log_image("a", np.full((40, 50, 3), i, np.uint8))
values = VALUES["x"]
spool = Spool(Path(sys.argv[1]), "grpc://127.0.0.1:1", RecordingSettings(application_id="app", recording_id="run"))
for i in range(0, 30, 2):
    spool.append(values[i : i + 2])
    print(i + 1, flush=True)  # everything up to here is durable
    if i % 4 == 2 and (unit := spool.next()) is not None:
        for key in list(unit.keys):
            spool.acknowledge(*key)
        spool.tidy()
spool.close()
"""


@needs_strace
@pytest.mark.parametrize(
    ("call", "moments"),
    [("pwritev,pwritev2", range(1, 16)), ("fsync", range(1, 25)), ("rename", [1]), ("unlink", [1]), ("flock", [1])],
)
def test_killed_at_every_call_everything_that_was_durable_is_there(tmp_path, call, moments):
    running = []
    for when in moments:
        root = tmp_path / str(when)
        command = [sys.executable, "-c", WRITER, str(root)]
        fault = faulty(call, "signal=KILL", when)
        running.append((root, subprocess.Popen([*fault, *command], stdout=subprocess.PIPE, text=True)))
        if len(running) == 4 or when == moments[-1]:
            for place, process in running:
                out, _ = process.communicate(timeout=120)
                assert process.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}
                assert_kept(place, int(out.split()[-1]) if out else -1)
            running = []


def assert_kept(root, durable):
    """Values up to `durable` can be read, but those that were acknowledged; what else is there is whole."""
    found = []
    for path in spools(root):
        adopted = Spool.adopt(path)
        found = received(adopted)
        assert adopted.damaged == 0
        adopted.close()
    numbers = sorted(set(seqs(found)))
    assert not numbers or numbers == list(range(numbers[0], numbers[-1] + 1))
    assert not numbers or numbers[0] <= 20
    assert durable < 0 or numbers[-1] >= durable
    for value in found:
        assert (value.array == value.seq).all()


def test_a_spool_directory_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        SpoolDirectory.create(tmp_path / "root", URL, SETTINGS)
    assert list((tmp_path / "root").iterdir()) == []
