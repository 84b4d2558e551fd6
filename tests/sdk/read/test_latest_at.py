"""Latest-at against the rules read aloud: a loop over all rows."""

import datetime as dt
import itertools
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumatile.errors import InvalidTypeError, InvalidValueError, NotFoundError
from lumatile.read.store import open_store
from lumatile.settings import RecordingSettings
from lumatile.write.writer import SegmentWriter

PATHS = ["", "a", "a/b", "a/b/c", "ab"]
DATA = ["image", "depth", "segmentation", "points"]
PRODUCERS = [b"\x00" * 16, b"\xff" * 16]


def stored(store, rows, *, per_segment=4):
    """A recording of `rows`, in segments of several."""
    target = SegmentWriter(store, RecordingSettings(application_id="a", recording_id="r"))
    for first in range(0, len(rows), per_segment):
        for each in rows[first : first + per_segment]:
            target.append(each, [])
        target.commit()
    target.close()
    return open_store(store).recording("r")


def oracle(rows, path, kind, timeline, value):
    """The newest matching row or clear; seq of the row, or None."""
    ancestors = [path.rsplit("/", n)[0] for n in range(1, path.count("/") + 1)] + ([""] if path else [])

    def holds(row):
        if row["error"] is not None:
            return False
        if row["kind"] == "clear":
            return row["entity_path"] == path or (row["recursive"] and row["entity_path"] in ancestors)
        return row["entity_path"] == path and row["kind"] in (DATA if kind is None else [kind])

    def place(row):
        return {"log_time": row["log_time"], "log_tick": row["log_tick"], **row["sequences"]}.get(timeline)

    def newest(candidates):
        return max(candidates, key=lambda c: (c[0], c[1]["log_time"], c[1]["producer"], c[1]["seq"]), default=None)

    on = [(place(row), row) for row in rows if holds(row) and not row["timeless"] and place(row) is not None]
    found = newest([c for c in on if c[0] <= value])
    if found is None:
        found = newest([(0, row) for row in rows if holds(row) and row["timeless"]])
    return None if found is None or found[1]["kind"] == "clear" else (found[1]["producer"], found[1]["seq"])


@st.composite
def recordings(draw):
    rows = []
    for i in range(draw(st.integers(0, 20))):
        timeless = draw(st.sampled_from([False, False, False, True]))
        rows.append(
            {
                "entity_path": draw(st.sampled_from([*PATHS, "a/b", "a/b", "a/b"])),
                "kind": draw(st.sampled_from([*DATA, "image", "image", "image", "clear", "ext"])),
                "log_time": draw(st.integers(0, 4)),
                "log_tick": i,
                "sequences": {} if timeless else draw(st.dictionaries(st.sampled_from("fg"), st.integers(-1, 1))),
                "timeless": timeless,
                "recursive": draw(st.booleans()),
                "error": draw(st.sampled_from([None, None, None, "bad"])),
                "producer": draw(st.sampled_from(PRODUCERS)),
                "seq": i,
            }
        )
    return rows


@given(rows=recordings(), kind=st.sampled_from([None, "image", "points"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_query_is_answered_as_the_rules_say(tmp_path, rows, kind):
    recording = stored(tmp_path / uuid.uuid4().hex, rows)
    timelines = ["log_time", "log_tick", *(name for name in recording.timelines() if name in "fg")]
    if not rows:
        timelines += ["never"]
    for path, timeline in itertools.product(PATHS, timelines):
        for value in range(-2, 6):
            frame = recording.latest_at(path or "/", kind=kind, at={timeline: value})
            assert (frame and frame.key) == oracle(rows, path, kind, timeline, value), (path, timeline, value)


def image(seq, **columns):
    return {
        "entity_path": "a",
        "kind": "image",
        "log_time": seq,
        "log_tick": seq,
        "timeless": False,
        "producer": PRODUCERS[0],
        "seq": seq,
    } | columns


def test_without_an_instant_the_newest_by_log_time_holds(tmp_path):
    recording = stored(tmp_path, [image(0, log_time=7), image(1, log_time=5)])
    assert recording.latest_at("a").key == (PRODUCERS[0], 0)


def test_an_entity_that_was_never_logged_has_nothing(tmp_path):
    assert stored(tmp_path, [image(0)]).latest_at("b") is None
    assert stored(tmp_path / "none", []).latest_at("a") is None


@pytest.mark.parametrize(
    "instant",
    [
        1_500_000_000,
        1.5,
        np.float32(1.5),
        np.int64(1_500_000_000),
        dt.datetime(1970, 1, 1, 0, 0, 1, 500_000),  # noqa: DTZ001
        dt.datetime(1970, 1, 1, 1, 0, 1, 500_000, tzinfo=dt.timezone(dt.timedelta(hours=1))),
        np.datetime64(1500, "ms"),
    ],
)
def test_an_instant_may_be_nanoseconds_seconds_or_a_datetime(tmp_path, instant):
    recording = stored(tmp_path, [image(0, times={"t": 1_500_000_000}), image(1, times={"t": 1_500_000_001})])
    assert recording.latest_at("a", t=instant).key == (PRODUCERS[0], 0)
    assert recording.latest_at("a", at={"t": instant}).key == (PRODUCERS[0], 0)


def test_instants_beyond_64_bits_are_the_ends_of_time(tmp_path):
    recording = stored(tmp_path, [image(0, times={"t": 5})])
    assert recording.latest_at("a", t=10**30) is not None
    assert recording.latest_at("a", t=float("inf")) is not None
    assert recording.latest_at("a", t=float("-inf")) is None


@pytest.mark.parametrize(
    ("instant", "year"),
    [
        (np.datetime64("9999-12-31"), 2020),
        (np.datetime64("2500-01-01"), 2020),
        (np.datetime64("2263-01-01", "s"), 2020),
        (np.datetime64(2**62, "Y"), 2020),
        (np.datetime64(2**62, "s"), 2020),
        (np.datetime64("1600-01-01"), None),
        (np.datetime64(-(2**62), "M"), None),
        (dt.datetime(9999, 12, 31), 2020),  # noqa: DTZ001
        (dt.datetime(1, 1, 1), None),  # noqa: DTZ001
        (1e300, 2020),
        (-1e300, None),
        (np.datetime64("1950"), 1900),
        (np.datetime64("1990-01"), 1990),
        (np.timedelta64(0, "s"), 1900),
        (np.timedelta64(20 * 366, "D"), 1990),
        (dt.timedelta(days=20 * 366), 1990),
        (dt.timedelta.max, 2020),
    ],
)
def test_no_instant_wraps_around(tmp_path, instant, year):
    years = [1800, 1900, 1990, 2020]
    times = [int(np.datetime64(str(each), "ns").astype(np.int64)) for each in years]
    recording = stored(tmp_path, [image(i, times={"t": at}) for i, at in enumerate(times)])
    frame = recording.latest_at("a", t=instant)
    assert (frame and years[frame.key[1]]) == year


def test_an_unknown_timeline_is_an_error_that_names_those_there_are(tmp_path):
    recording = stored(tmp_path, [image(0, sequences={"frame": 5}), image(1, timeless=True)])
    with pytest.raises(NotFoundError, match=r"no timeline 'frmae'; .* \['frame', 'log_tick', 'log_time'\]"):
        recording.latest_at("a", frmae=5)


def test_where_nothing_is_on_a_timeline_yet_any_may_be_asked(tmp_path):
    assert stored(tmp_path / "empty", []).latest_at("a", frame=5) is None
    assert stored(tmp_path / "timeless", [image(0, timeless=True)]).latest_at("a", frame=5).key == (PRODUCERS[0], 0)


def test_a_sequence_takes_no_seconds(tmp_path):
    recording = stored(tmp_path, [image(0, sequences={"frame": 5})])
    with pytest.raises(InvalidTypeError, match=r"'frame' is a sequence: its instant must be an int, not 4.5"):
        recording.latest_at("a", frame=4.5)
    for instant in (np.timedelta64(4, "s"), np.timedelta64(4), dt.timedelta(seconds=4), np.datetime64(4, "s")):
        with pytest.raises(InvalidTypeError, match="'frame' is a sequence"):
            recording.latest_at("a", frame=instant)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"t": float("nan")}, InvalidValueError, "nan"),
        ({"t": "now"}, InvalidTypeError, "'now'"),
        ({"t": None}, InvalidTypeError, "None"),
        ({"t": np.datetime64("NaT")}, InvalidValueError, "NaT"),
        ({"t": np.timedelta64("NaT")}, InvalidValueError, "NaT"),
        ({"t": np.timedelta64(3, "M")}, InvalidValueError, "no length"),
        ({"t": 1, "frame": 2}, InvalidValueError, "one timeline"),
        ({"kind": "video"}, InvalidValueError, "'video'"),
    ],
)
def test_what_is_no_instant_is_refused_by_name(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        stored(tmp_path, [image(0, times={"t": 5})]).latest_at("a", **arguments)


def test_timelines_are_named_with_their_kinds(tmp_path):
    recording = stored(tmp_path, [image(0, sequences={"frame": 5}), image(1, times={"sim": 5})])
    assert recording.timelines() == {"log_time": "time", "log_tick": "sequence", "frame": "sequence", "sim": "time"}


def test_a_frame_knows_its_times(tmp_path):
    (frame,) = stored(tmp_path, [image(3, sequences={"frame": 5, "g": -1}, times={"sim": 7})]).frames("a")
    assert frame.times == {
        "log_time": np.datetime64(3, "ns"),
        "log_tick": 3,
        "frame": 5,
        "g": -1,
        "sim": np.datetime64(7, "ns"),
    }


def test_paths_are_taken_with_and_without_a_leading_slash(tmp_path):
    recording = stored(tmp_path, [image(0)])
    assert recording.latest_at("/a").key == recording.latest_at("a").key
