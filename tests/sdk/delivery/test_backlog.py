"""The rules of the backlog, without a thread, a network or a wait: each verb is called as the sink's thread would.

Longer than other files: its tests share the bench, which plays the service and the clock.
"""

import threading

import numpy as np
import pytest
from tests.support.interrupts import interrupted

from lumatile.delivery.backlog import Backlog
from lumatile.delivery.flushes import ATTEMPTS, STALLED_SECONDS, PendingFlush
from lumatile.delivery.spill import AWAY_SECONDS
from lumatile.settings import RecordingSettings
from lumatile.sink.intake import Intake
from lumatile.spool.reader import Unit
from lumatile.spool.spool import Spool
from lumatile.values import LoggedValue, TimePoint
from lumatile.wire.acknowledgements import Acknowledgement
from lumatile.wire.protocol import Refused

SETTINGS = RecordingSettings(application_id="app", recording_id="run")
URL = "grpc://127.0.0.1:1"
PRODUCER = bytes(range(16))
NBYTES = 100
"""Of a value."""


def value(seq, **fields):
    """A small image, or what `fields` say."""
    content = {"kind": "image", "array": np.full((4, 4, 3), seq, np.uint8)} if "kind" not in fields else {}
    time = TimePoint(log_time=seq, log_tick=seq)
    return LoggedValue(entity_path="a", time=time, producer=PRODUCER, seq=seq, nbytes=NBYTES, **content, **fields)


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Bench:
    """A backlog, what it is made of, and what a server would say."""

    def __init__(self, spool=None, settings=SETTINGS):
        self.clock = Clock()
        self.spool = spool
        self.intake = Intake(settings, settings.queue_bytes // 2)
        self.backlog = Backlog(URL, self.intake, settings, spool, clock=self.clock)

    def put(self, *seqs):
        for seq in seqs:
            self.intake.put(value(seq))

    def sent(self):
        """The seqs that are to be sent now."""
        following = self.backlog.next(0)
        if isinstance(following, Unit):
            return [seq for batch in following.batches for seq in batch["seq"].to_pylist()]
        return [each.seq for each in following]

    def acknowledge(self, first, last):
        self.backlog.heard(Acknowledgement(durable=((PRODUCER, first, last),)))

    def flush(self, timeout=0):
        return PendingFlush(self.backlog, timeout, clock=self.clock).wait()


@pytest.fixture
def bench():
    """A backlog without a spool, with a link."""
    made = Bench()
    made.backlog.connected()
    return made


@pytest.fixture
def spooled(tmp_path):
    """A backlog with a spool, with a link."""
    made = Bench(Spool(tmp_path, URL, SETTINGS))
    made.backlog.connected()
    yield made
    made.backlog.close()


def test_values_are_undelivered_until_the_service_has_acknowledged_them(bench):
    bench.put(0, 1, 2)
    assert bench.flush().undelivered == 3
    assert bench.sent() == [0, 1, 2]
    assert not bench.sent()
    bench.acknowledge(0, 1)
    assert (bench.flush().where, bench.flush().undelivered) == (None, 1)
    bench.acknowledge(2, 2)
    assert (bench.flush().where, bench.flush().undelivered) == ("store", 0)


def test_a_value_is_held_neither_in_the_queue_nor_in_flight(bench):
    bench.put(0, 1)
    assert not bench.backlog.state().held(1)
    bench.sent()
    assert not bench.backlog.state().held(1)
    bench.acknowledge(1, 1)
    assert not bench.backlog.state().held(2)  # value 0 came before it
    bench.acknowledge(0, 0)
    assert bench.backlog.state().held(2)
    assert not bench.backlog.state().held(3)  # nothing with that number was put


def test_a_gap_holds_up_what_was_put_before_it_until_it_is_acknowledged():
    bench = Bench(
        settings=RecordingSettings(application_id="app", recording_id="run", queue_bytes=2 * NBYTES, max_block=0.0)
    )
    bench.backlog.connected()
    bench.put(0)
    with pytest.warns(UserWarning, match="values are dropped"):
        bench.put(1)
    assert bench.sent() == [0, 1]  # the gap goes along
    bench.acknowledge(0, 0)
    assert not bench.backlog.state().held(1)
    bench.acknowledge(1, 1)
    outcome = bench.flush()
    assert (outcome.where, outcome.lost) == ("store", 1)
    assert "dropped" in outcome.why


def test_a_dead_link_makes_unsent_what_is_not_acknowledged(bench):
    bench.put(0, 1, 2)
    assert bench.sent() == [0, 1, 2]
    bench.acknowledge(1, 1)
    assert bench.backlog.disconnected("it is gone") == 1
    assert bench.sent() == []  # until a server answers, values wait
    bench.backlog.connected()
    bench.backlog.answered(heard_of=False)
    assert bench.sent() == []
    bench.backlog.answered(heard_of=True)
    assert bench.sent() == [0, 2]
    bench.acknowledge(0, 2)
    assert bench.backlog.disconnected("again") == 1
    assert bench.flush().where == "store"


def test_an_acknowledgement_of_a_dead_link_counts_and_one_of_unknown_values_does_not(bench):
    bench.put(0)
    bench.sent()
    bench.backlog.disconnected("it is gone")
    bench.backlog.heard(Acknowledgement(durable=((PRODUCER, 0, 2**62), (bytes(16), 0, 2**62))))
    assert bench.backlog.state().held(1)
    before = bench.backlog.state().progress
    bench.clock.now += 1
    bench.acknowledge(0, 0)
    assert bench.backlog.state().progress == before


def test_every_link_begins_with_the_newest_annotation_context_that_is_acknowledged(bench):
    for seq in range(2):
        bench.intake.put(value(seq, kind="annotation_context", body="{}"))
    assert bench.sent() == [0, 1]
    assert bench.backlog.connected() == []  # they are still to be sent in their place
    assert bench.sent() == [0, 1]
    bench.acknowledge(0, 1)
    assert [each.seq for each in bench.backlog.connected()] == [1]


def test_a_refused_value_is_lost_once_whatever_is_said_again(bench):
    bench.put(0)
    bench.sent()
    refusal = Acknowledgement(refused=(Refused(producer=PRODUCER, seq=0, reason="too large"),))
    bench.backlog.heard(refusal)
    bench.backlog.heard(refusal)
    outcome = bench.flush()
    assert (outcome.where, outcome.lost, outcome.why) == ("store", 1, "refused by the service: too large")
    assert bench.flush().lost == 0


def test_a_server_is_asked_once_to_commit_what_a_flush_waits_for_after_it_was_sent(bench):
    bench.put(0)
    bench.flush()
    assert not bench.backlog.commit_wanted()
    bench.sent()
    assert [bench.backlog.commit_wanted() for _ in range(2)] == [True, False]
    bench.backlog.connected()
    assert not bench.backlog.commit_wanted()
    bench.sent()
    assert bench.backlog.commit_wanted()


def test_no_more_is_sent_than_may_be_in_flight():
    settings = RecordingSettings(application_id="app", recording_id="run", queue_bytes=16 * NBYTES, max_block=0.0)
    bench = Bench(settings=settings)
    bench.backlog.connected()
    bench.put(*range(8))
    assert bench.sent() == list(range(8))  # what is taken at once may be a little more than seven
    bench.put(8)
    assert bench.sent() == []
    bench.acknowledge(0, 0)
    assert bench.sent() == []
    bench.acknowledge(1, 1)
    assert bench.sent() == [8]


def test_values_go_to_the_spool_where_the_service_is_away_and_then_from_there(spooled):
    spooled.put(0, 1)
    assert not spooled.backlog.save_some()
    spooled.backlog.disconnected("it is gone")
    spooled.backlog.rest(0)  # takes them from the queue
    assert not spooled.backlog.save_some()
    spooled.clock.now += AWAY_SECONDS
    assert spooled.backlog.save_some()
    assert spooled.backlog.state().held(2)
    assert spooled.flush().where == "spool"
    spooled.put(2)
    spooled.backlog.connected()
    spooled.backlog.answered(heard_of=True)
    assert spooled.sent() == [0, 1]
    assert spooled.sent() == [2]
    spooled.acknowledge(0, 1)
    assert spooled.flush().where is None
    spooled.acknowledge(2, 2)
    assert spooled.flush().where == "store"


def test_what_was_sent_before_it_is_spooled_is_sent_again_only_on_another_link(spooled):
    spooled.put(0, 1)
    assert spooled.sent() == [0, 1]
    spooled.backlog.want_spooled(2)
    assert spooled.backlog.save_some()
    assert spooled.sent() == []
    spooled.backlog.connected()
    assert spooled.sent() == [0, 1]
    spooled.acknowledge(0, 0)
    spooled.backlog.connected()
    assert spooled.sent() == [0, 1]  # they are one record
    spooled.acknowledge(0, 1)
    assert spooled.flush().where == "store"


def test_a_flush_wants_the_spool_where_the_service_makes_no_progress(spooled):
    spooled.put(0)
    spooled.sent()
    flush = PendingFlush(spooled.backlog, None, clock=spooled.clock)
    assert flush._where(spooled.backlog.state()) is None
    assert not spooled.backlog.save_some()
    spooled.clock.now += STALLED_SECONDS
    assert flush._where(spooled.backlog.state()) is None
    assert spooled.backlog.save_some()
    assert flush._where(spooled.backlog.state()) == "spool"
    spooled.acknowledge(0, 0)
    assert flush._where(spooled.backlog.state()) == "store"


def test_a_value_that_is_acknowledged_while_it_is_spooled_is_not_sent_again(spooled, monkeypatch):
    append = spooled.spool.append

    def acknowledged_meanwhile(values, *, sent):
        count = append(values, sent=sent)
        spooled.acknowledge(0, 0)
        return count

    monkeypatch.setattr(spooled.spool, "append", acknowledged_meanwhile)
    spooled.put(0)
    spooled.sent()
    spooled.backlog.want_spooled(1)
    assert spooled.backlog.save_some()
    assert spooled.flush().where == "store"
    spooled.backlog.connected()
    assert spooled.sent() == []


def test_a_flush_without_a_spool_gives_up_after_failed_attempts_and_says_why(bench):
    bench.put(0)
    flush = PendingFlush(bench.backlog, None, clock=bench.clock)
    for _ in range(ATTEMPTS):
        bench.backlog.disconnected("refused")
    outcome = flush.wait()
    assert (outcome.where, outcome.undelivered) == (None, 1)
    assert outcome.why == f"{URL} does not take values: refused"


def test_what_is_left_goes_to_the_spool_at_the_end(spooled):
    spooled.put(0, 1)
    spooled.sent()
    spooled.put(2)
    spooled.intake.close()
    spooled.backlog.save_all()
    assert spooled.backlog.state().held(3)
    assert spooled.backlog.state().undelivered == 0


@pytest.mark.parametrize("call", ["state", "want", "heard", "wait"])
def test_ctrl_c_at_any_moment_leaves_the_backlog_usable(bench, call):
    calls = {
        "state": bench.backlog.state,
        "want": lambda: bench.backlog.want(1),
        "heard": lambda: bench.acknowledge(0, 0),
        "wait": lambda: bench.backlog.wait(bench.backlog.state().version, 1e-4),
    }

    def usable():
        other = threading.Thread(target=bench.backlog.state, daemon=True)
        other.start()
        other.join(10)
        return not other.is_alive()

    for _ in interrupted(calls[call], 200):
        assert usable(), "it is locked for ever"
