"""What the entrance of every sink promises: no value is lost without a gap, a count and a warning."""

import threading
import warnings

import pytest

from lumatile.errors import LumatileWarning, SinkError
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.values import LoggedValue, TimePoint

PRODUCER = bytes(16)


def value(seq):
    """A value of ten bytes."""
    return LoggedValue(
        entity_path="a",
        kind="image",
        time=TimePoint(log_time=0, log_tick=0),
        producer=PRODUCER,
        seq=seq,
        nbytes=10,
    )


def intake(policy="drop_newest", max_block=0.0):
    """One that holds one value."""
    settings = RecordingSettings(
        application_id="app", recording_id="run", queue_bytes=10, queue_policy=policy, max_block=max_block
    )
    return Intake(settings)


@pytest.mark.parametrize(("policy", "dropped"), [("drop_oldest", 0), ("drop_newest", 1), ("block", 1)])
def test_a_dropped_value_is_a_gap_and_counted_before_anybody_finds_it_missing(policy, dropped, monkeypatch):
    made, seen = intake(policy), []
    on_drop = made.queue._on_drop

    def look():
        made.queue.get_nowait()
        seen.append((bool(made.gaps), made.take_lost()[0]))

    looking = threading.Thread(target=look, daemon=True)

    def told(values):
        looking.start()  # it finds out as soon as the queue is not locked
        looking.join(0.1)
        on_drop(values)

    made.put(value(0))
    monkeypatch.setattr(made.queue, "_on_drop", told)
    with pytest.warns(LumatileWarning, match="the queue of 10 bytes is full"):
        made.put(value(1))
    looking.join(10)
    assert seen == [(True, 1)]
    (gap,) = made.gaps.take()
    assert (gap.kind, gap.seq, gap.seq_last) == ("gap", dropped, dropped)


def test_drops_are_warned_about_once_and_each_is_told_to_one_flush():
    made = intake()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for seq in range(4):
            made.put(value(seq))
    assert len(warned) == 1
    assert made.take_lost() == (3, "dropped since the last flush, for want of room in the queue")
    assert made.take_lost()[0] == 0
    assert (made.queue.accepted, made.queue.kept, made.queue.dropped) == (1, 1, 3)


def test_values_that_are_dropped_to_make_room_are_not_kept():
    made = intake("drop_oldest")
    made.put(value(0))
    with pytest.warns(LumatileWarning):
        made.put(value(1))
    made.put(value(2))
    assert (made.queue.accepted, made.queue.kept, made.queue.dropped) == (3, 1, 2)
    assert [(gap.seq, gap.seq_last) for gap in made.gaps.take()] == [(0, 1)]


def test_values_that_are_lost_later_are_told_with_the_reason():
    made = intake()
    made.lose(2, "damaged")
    made.lose(1, "refused")
    assert made.take_lost() == (3, "refused")


def test_a_closed_intake_names_the_first_error_and_gives_out_what_is_left():
    made = intake()
    made.put(value(0))
    made.close()
    with pytest.raises(SinkError, match="the sink is closed"):
        made.put(value(1))
    made.close(ValueError("the first"))
    made.close(ValueError("the second"))
    with pytest.raises(SinkError, match="the sink has died: the first"):
        made.put(value(1))
    assert str(made.error) == "the first"
    assert made.queue.get()[1].seq == 0
