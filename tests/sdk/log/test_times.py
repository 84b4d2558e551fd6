"""Where values lie on the timelines."""

import datetime as dt
import threading
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lumatile as lt
from lumatile.log.timelines import Timelines, nanoseconds_of_seconds


def log(recording, values, **options):
    recording.log_point("p", [0, 0], **options)
    return values[-1].time


def test_log_time_and_log_tick_are_always_there(strict, values):
    before = time.time_ns()
    points = [log(strict, values), log(strict, values, timeless=True), log(strict, values)]
    assert [point.log_tick for point in points] == [0, 1, 2]
    assert before <= points[0].log_time <= points[1].log_time <= points[2].log_time <= time.time_ns()


def test_a_time_holds_until_it_is_changed_or_removed(strict, values):
    strict.set_time_sequence("frame", 7)
    strict.set_time_seconds("sim", 1.5)
    strict.set_time_nanos("wall", 3)
    assert (log(strict, values).sequences, values[0].time.times) == ({"frame": 7}, {"sim": 1_500_000_000, "wall": 3})
    strict.set_time_sequence("frame", np.int64(8))
    strict.set_time_seconds("sim", None)
    assert (log(strict, values).sequences, values[1].time.times) == ({"frame": 8}, {"wall": 3})
    strict.set_time_sequence("frame", None)
    assert log(strict, values).sequences == {}
    strict.reset_time()
    assert (log(strict, values).sequences, values[3].time.times) == ({}, {})
    assert values[0].time.sequences == {"frame": 7}


def test_a_timeless_value_is_on_no_timeline(strict, values):
    strict.set_time_sequence("frame", 7)
    strict.set_time_nanos("wall", 3)
    point = log(strict, values, timeless=True)
    assert (point.timeless, point.sequences, point.times) == (True, {}, {})


def test_times_are_each_threads_own(strict, values):
    strict.set_time_sequence("frame", 1)

    def other():
        assert log(strict, values).sequences == {}
        strict.set_time_sequence("frame", 2)
        assert log(strict, values).sequences == {"frame": 2}

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(values) == 2
    assert log(strict, values).sequences == {"frame": 1}


def test_times_are_each_recordings_own(strict, lenient, values):
    strict.set_time_sequence("frame", 1)
    lenient.set_time_seconds("frame", 2)
    assert log(strict, values).sequences == {"frame": 1}
    assert log(lenient, values).times == {"frame": 2_000_000_000}


@pytest.mark.parametrize("again", ["set_time_seconds", "set_time_nanos"])
def test_a_name_used_as_sequence_and_as_time_is_an_error(strict, values, again):
    strict.set_time_sequence("frame", 1)
    with pytest.raises(ValueError, match="timeline 'frame' is a sequence in this recording, and cannot be a time too"):
        getattr(strict, again)("frame", 2)
    strict.reset_time()
    with pytest.raises(ValueError, match="is a sequence"):
        getattr(strict, again)("frame", 2)
    strict.set_time_nanos("wall", 1)
    with pytest.raises(ValueError, match="timeline 'wall' is a time in this recording, and cannot be a sequence too"):
        strict.set_time_sequence("wall", 1)
    assert (log(strict, values).sequences, values[0].time.times) == ({}, {"wall": 1})


def test_lenient_mode_warns_of_a_bad_time_and_keeps_the_one_before(lenient, values):
    lenient.set_time_sequence("frame", 1)
    for bad in (1.5, "2", object(), 2**63):
        with pytest.warns(lt.LumatileWarning):
            lenient.set_time_sequence("frame", bad)
    assert lenient.errors == 4
    assert log(lenient, values).sequences == {"frame": 1}
    assert len(values) == 1


@pytest.mark.parametrize("timeline", ["", "log_time", "log_tick", "a\nb", "\ud800"])
def test_names_that_cannot_be_are_refused(strict, timeline):
    with pytest.raises(ValueError, match="timeline must be a non-empty name"):
        strict.set_time_sequence(timeline, 1)


@pytest.mark.parametrize(
    ("function", "value", "error"),
    [
        ("set_time_sequence", 1.0, TypeError),
        ("set_time_sequence", 2**63, ValueError),
        ("set_time_sequence", -(2**63) - 1, ValueError),
        ("set_time_seconds", "1", TypeError),
        ("set_time_seconds", float("nan"), ValueError),
        ("set_time_seconds", float("inf"), ValueError),
        ("set_time_seconds", 1e300, ValueError),
        ("set_time_seconds", [1, 2], TypeError),
        ("set_time_nanos", 1.5, TypeError),
        ("set_time_nanos", 2**63, ValueError),
    ],
)
def test_times_that_are_none_are_refused(strict, function, value, error):
    with pytest.raises(error):
        getattr(strict, function)("t", value)
    with pytest.raises(TypeError, match="timeline must be a string, not 5"):
        getattr(strict, function)(5, 1)


@given(st.floats(-9e9, 9e9))
def test_seconds_are_rounded_to_nanoseconds(seconds):
    assert nanoseconds_of_seconds(seconds) == round(seconds * 1e9)


def test_seconds_of_narrow_dtypes_are_widened_first():
    assert nanoseconds_of_seconds(np.float32(1.5)) == 1_500_000_000
    assert nanoseconds_of_seconds(np.int8(100)) == 100_000_000_000
    assert nanoseconds_of_seconds(1_700_000_000) == 1_700_000_000 * 10**9


INSTANT = 1_577_836_800_000_000_001  # 2020-01-01, and one nanosecond
INSTANTS = [
    (np.datetime64(INSTANT, "ns"), INSTANT),
    (np.array([INSTANT], "M8[ns]"), INSTANT),
    (pd.Timestamp(INSTANT), INSTANT),
    (pd.Timestamp(INSTANT, tz="Asia/Tokyo"), INSTANT),
    (dt.datetime(2020, 1, 1), INSTANT - 1),  # noqa: DTZ001
    (dt.datetime(2020, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))), INSTANT - 1),
    (np.datetime64("2020"), INSTANT - 1),
    (np.datetime64("2020-01"), INSTANT - 1),
    (np.datetime64("2020-01-01T00:00"), INSTANT - 1),
]
DURATIONS = [
    (np.timedelta64(33_000_000, "ns"), 33_000_000),
    (np.array(33_000_000, "m8[ns]"), 33_000_000),
    (np.timedelta64(33, "ms"), 33_000_000),
    (np.timedelta64(-2, "W"), -14 * 86_400 * 10**9),
    (np.timedelta64(33_000_000_999, "ps"), 33_000_000),
    (dt.timedelta(milliseconds=33), 33_000_000),
    (dt.timedelta(days=-1, microseconds=1), -86_400 * 10**9 + 1000),
    (pd.Timedelta(33_000_001, "ns"), 33_000_001),
]


@pytest.mark.parametrize(("at", "nanos"), INSTANTS + DURATIONS)
@pytest.mark.parametrize("function", ["set_time_seconds", "set_time_nanos"])
def test_instants_and_durations_mean_themselves_in_any_unit(strict, values, function, at, nanos):
    getattr(strict, function)("t", at)
    assert log(strict, values).times == {"t": nanos}


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (np.datetime64("NaT"), "NaT"),
        (np.timedelta64("NaT"), "NaT"),
        (pd.NaT, "NaT"),
        (np.timedelta64(3, "Y"), "no length"),
        (np.timedelta64(3), "no length"),
        (np.datetime64(2**62, "s"), "64 bits"),
        (np.datetime64("9999"), "64 bits"),
        (dt.datetime(9999, 1, 1), "64 bits"),  # noqa: DTZ001
        (dt.timedelta.max, "64 bits"),
    ],
)
@pytest.mark.parametrize("function", ["set_time_seconds", "set_time_nanos"])
def test_a_time_without_a_number_of_64_bits_is_refused(strict, function, at, why):
    with pytest.raises(ValueError, match=why):
        getattr(strict, function)("t", at)


@pytest.mark.parametrize("at", [INSTANTS[0][0], DURATIONS[0][0], DURATIONS[5][0]])
def test_a_sequence_takes_no_time(strict, at):
    with pytest.raises(TypeError, match="sequence must be an integer or None"):
        strict.set_time_sequence("frame", at)


def test_a_time_point_keeps_what_it_saw():
    timelines = Timelines()
    timelines.set("sequence", "a", 1)
    point = timelines.time_point(0, timeless=False)
    timelines.set("sequence", "b", 2)
    timelines.reset()
    assert point.sequences == {"a": 1}
