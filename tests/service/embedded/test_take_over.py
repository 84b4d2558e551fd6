"""Spools of workers that have ended: what they hold is stored once."""

import numpy as np
import pytest
import typer

import lumatile as lt
from lumatile.delivery.worker_sink import WorkerSink
from lumatile.delivery.worker_spools import collect
from lumatile.settings import RecordingSettings
from lumatile.sink.memory import VALUES, MemorySink
from lumatile.sink.sinks import open_sink
from lumatile.spool.options import root_of
from lumatile.spool.spool import Spool
from lumatile.spool.writer import SpoolFullError
from lumatile_service.cli.sync import sync

SETTINGS = RecordingSettings(application_id="app", recording_id="run")


@pytest.fixture
def values(name):
    """Six values."""
    recording = lt.new_recording("app", "run", sink=f"memory://{name}", strict=True)
    for i in range(6):
        recording.log_image("a", np.full((40, 50, 3), i, np.uint8))
    return VALUES[name]


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "store")


def worker(store):
    """A sink of a worker, what the sink behind it has taken, and how that says what is settled."""
    behind, told = [], []
    root = root_of(store)
    sink = WorkerSink(
        root, Spool(root, store, SETTINGS, synced=False), lambda tell: told.append(tell) or MemorySink(behind)
    )
    return sink, behind, told[0]


def die(sink):
    """What the death of its process does: its files are closed."""
    sink._spool._directory._lock.close()


def sources(store):
    return [int(frame.source()[0, 0, 0]) for frame in lt.open_store(store).recording("run").frames("a")]


def test_what_a_worker_left_is_stored_once_also_where_a_part_was_stored_before(store, values):
    sink, behind, _ = worker(store)
    for value in values:
        sink.put(value)
    assert behind == values
    embedded = open_sink(store, SETTINGS)
    for value in values[1:4]:
        embedded.put(value)
    embedded.close()
    die(sink)
    assert collect(store, "run") == "store"
    assert sources(store) == list(range(6))
    assert lt.open_store(store).recording("run").frames_table().num_rows == 6
    assert not root_of(store).exists()


def test_a_worker_that_is_alive_is_not_taken_over_from(store, values):
    sink, _, _ = worker(store)
    sink.put(values[0])
    assert collect(store, "run") == "store"  # it is not a worker of this process: it is not waited for
    die(sink)
    collect(store, "another")
    assert root_of(store).exists(), "it is of another recording"
    collect(store)
    assert sources(store) == [0]


def test_a_workers_files_are_gone_when_its_values_are_settled(store, values):
    sink, _, settled = worker(store)
    for value in values:
        sink.put(value)
    assert len(list(root_of(store).rglob("*.segment"))) == 1
    settled(values)
    assert not list(root_of(store).rglob("*.segment"))
    sink.put(values[0])
    assert len(list(root_of(store).rglob("*.segment"))) == 1
    settled(values[:1])
    sink.close()
    assert not root_of(store).exists()


def test_a_worker_whose_disk_is_full_logs_all_the_same_and_says_once_what_it_costs(store, values, monkeypatch, caplog):
    sink, behind, _ = worker(store)

    def full(*_, **__):
        raise SpoolFullError("no room")

    monkeypatch.setattr(Spool, "append", full)
    for value in values:
        sink.put(value)
    assert behind == values
    assert [record.message for record in caplog.records] == [
        "values of this process are lost if it is killed before they are stored: no room"
    ]
    sink.close()


def test_a_store_that_cannot_be_written_is_an_error_of_the_flush_and_what_was_left_stays(store, values, tmp_path):
    sink, _, _ = worker(store)
    sink.put(values[0])
    die(sink)
    (tmp_path / "store" / "run").write_text("no directory")
    with pytest.raises(lt.FlushError, match="cannot be stored"):
        collect(store, "run")
    (tmp_path / "store" / "run").unlink()
    assert collect(store, "run") == "store"
    assert sources(store) == [0]


def test_sync_stores_what_a_worker_left_in_its_store_or_says_why_not(store, values, tmp_path, capsys):
    sink, _, _ = worker(store)
    sink.put(values[0])
    die(sink)
    (tmp_path / "store" / "run").write_text("no directory")
    with pytest.raises(typer.Exit) as left:
        sync(root_of(store))
    assert left.value.exit_code == 1
    assert "are left: the store must be a directory" in capsys.readouterr().out
    (tmp_path / "store" / "run").unlink()
    with pytest.raises(typer.Exit) as done:
        sync(root_of(store))
    assert done.value.exit_code == 0
    assert sources(store) == [0]
