"""Rerun's own query engine is asked what an entity shows at each instant: of what we read, and of what we write."""

import numpy as np
import pyarrow as pa
import pytest
import rerun as rr
from rerun.chunk import RrdReader
from tests.support.rerun_files import written

import lumatile as lt
from lumatile_service.batch.formats.rerun.file import RrdFile
from lumatile_service.batch.formats.rerun.values import RrdValues
from lumatile_service.export.rerun_rrd import write_rrd

FRAMES = 12

ARCHETYPES = {"image": "Image", "segmentation": "SegmentationImage", "depth": "DepthImage"}


def asked(path, entity):
    """At each frame what Rerun shows: {"Points3D:positions": instances}. It knows no clears here."""
    store = RrdReader(path).stream().collect()
    found = store.reader(index="frame", contents=entity, fill_latest_at=True, using_index_values=np.arange(FRAMES))
    return [
        {
            name.removeprefix(f"{entity}:"): value
            for name, value in row.items()
            if name.startswith(f"{entity}:") and value
        }
        for row in pa.table(found.to_arrow_table()).to_pylist()
    ]


def log_parts(recording, rng, *, static, columns):
    """Components of points, each at instants of its own, not in the order of time."""
    if static:
        recording.log("a/p", rr.Points3D.from_fields(radii=[float(rng.integers(1, 9))]), static=True)
    for name in rng.permutation(["positions", "colors", "labels"]) if columns else ():
        count = int(rng.integers(2, 8))
        values = {
            "positions": np.c_[rng.integers(0, 99, (count, 1)), np.zeros((count, 2))],
            "colors": rng.integers(0, 2**32, count).astype(np.uint32),
            "labels": [str(i) for i in rng.integers(0, 99, count)],
        }
        index = rr.TimeColumn("frame", sequence=rng.choice(FRAMES, count, replace=False))
        recording.send_columns("a/p", [index], rr.Points3D.columns(**{name: values[name]}))
    for _ in range(20):
        recording.set_time("frame", sequence=int(rng.integers(0, FRAMES)))
        made = {
            "positions": [[float(rng.integers(0, 99)), 0, 0]],
            "colors": [int(rng.integers(0, 2**32))],
            "labels": [str(rng.integers(0, 99))],
            "class_ids": [int(rng.integers(0, 9))],
        }
        fields = {name: made[name] for name in made if rng.random() < 0.4}
        if fields:
            recording.log("a/p", rr.Points3D.from_fields(clear_unset=bool(rng.random() < 0.2), **fields))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_what_is_read_is_what_rerun_shows(tmp_path, seed, columns, static):
    rng = np.random.default_rng(seed)
    path = written(tmp_path / "a.rrd", lambda recording: log_parts(recording, rng, static=static, columns=columns))
    file = RrdFile(path)
    values = [value for value in RrdValues(file, file.recordings[0]) if not value.static]
    values.sort(key=lambda value: (value.sequences["frame"], value.row_id))
    for frame, theirs in enumerate(asked(path, "/a/p")):
        before = [value for value in values if value.sequences["frame"] <= frame]
        parts = before[-1].parts if before else {}
        ours = {f"Points3D:{name}": array.to_pylist() for name, array in parts.items() if len(array)}
        shown = [each if "Points3D:positions" in each else {} for each in (ours, theirs)]
        assert shown[0] == shown[1], frame


@pytest.mark.parametrize("seed", range(6))
def test_what_is_written_shows_at_each_instant_what_latest_at_gives(tmp_path, seed):
    """Values of several kinds at one entity, with and without components, not in the order of time."""
    rng = np.random.default_rng(seed)
    log = lt.new_recording("app", "run", sink=str(tmp_path / "runs"))
    for number in range(40):
        log.set_time_sequence("frame", int(rng.integers(0, FRAMES)))
        given = {
            name: value for name, value in (("radii", 1.5), ("labels", "x"), ("class_ids", 3)) if rng.random() < 0.5
        }
        kind = rng.choice(["image", "segmentation", "depth", "flat", "points"])
        if kind == "image":
            log.log_image("p", np.full((4, 4, 3), number, np.uint8), draw_order=float(number))
        elif kind == "segmentation":
            log.log_segmentation_image("p", np.full((4, 4), number, np.uint8))
        elif kind == "depth":
            log.log_depth_image("p", np.full((4, 4), number, np.uint16))
        else:
            log.log_points("p", np.full((3, 2 if kind == "flat" else 3), number, np.float32), **given)
    log.disconnect()
    recording = lt.open_store(tmp_path / "runs").recording("run")
    write_rrd(recording, tmp_path / "out.rrd")
    for at, theirs in enumerate(asked(tmp_path / "out.rrd", "/p")):
        frame = recording.latest_at("p", frame=at)
        if frame is None:
            assert not theirs
        elif frame.kind == "points":
            name = f"Points{frame.shape[1]}D"
            assert theirs.keys() == {f"{name}:{part}" for part in frame.source()}
            np.testing.assert_array_equal(theirs[f"{name}:positions"], frame.source()["positions"])
        else:
            name = ARCHETYPES[frame.kind]
            assert {component.partition(":")[0] for component in theirs} == {name}
            assert bytes(theirs[f"{name}:buffer"][0]) == frame.source().tobytes()
