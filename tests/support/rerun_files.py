"""Rerun recordings for tests: written and read with Rerun's own SDK, and nothing of ours."""

from collections import defaultdict

import numpy as np
import pyarrow as pa
import rerun as rr
from rerun.chunk import RrdReader


def written(path, log, *, recording_id="rec-1", application_id="app"):
    """A .rrd file of what `log` logs into a rerun.RecordingStream."""
    recording = rr.RecordingStream(application_id, recording_id=recording_id)
    recording.save(path)
    recording.reset_time()  # Rerun remembers it by the recording's id
    log(recording)
    recording.disconnect()
    return path


def rows(path):
    """Entity -> its rows, in the order of their ids: {component or timeline: value}, "static", "id"."""
    found = defaultdict(list)
    reader = RrdReader(path)
    for entry in reader.recordings():
        for chunk in reader.stream(store=entry):
            batch = chunk.to_record_batch()
            for i in range(batch.num_rows):
                row = {"static": chunk.is_static}
                for field, column in zip(batch.schema, batch.columns, strict=True):
                    kind = field.metadata[b"rerun:kind"]
                    if kind == b"control":
                        row["id"] = column[i].as_py()
                    elif kind == b"index":
                        row[field.name] = (str(field.type), column[i].cast(pa.int64()).as_py())
                    elif column[i].is_valid and len(column[i].values):
                        row[field.metadata[b"rerun:component"].decode()] = value(column[i].values)
                found[chunk.entity_path].append(row)
    for each in found.values():
        each.sort(key=lambda row: row["id"])
    return dict(found)


def value(instances):
    """A component: of a blob its bytes, of numbers an array, else Python objects."""
    kind = instances.type
    if pa.types.is_list(kind) and pa.types.is_uint8(kind.value_type):
        return instances[0].values.to_numpy().tobytes()
    if pa.types.is_fixed_size_list(kind):
        return instances.flatten().to_numpy().reshape(len(instances), -1)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return instances.to_numpy(zero_copy_only=False)
    return instances.to_pylist()


def equal(one, other):
    """Whether two rows, or two lists of rows, say the same, but for their ids."""
    if isinstance(one, list) and one and isinstance(one[0], dict):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one if key != "id")
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return one == other
