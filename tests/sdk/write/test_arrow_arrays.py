import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from lumatile.format.arrow_arrays import array_of, array_of_numbers, numbers_of, table_of
from lumatile.format.schema import FRAMES, LOG

ROW = {
    "entity_path": "camera/ä",
    "kind": "image",
    "log_time": -(2**63) + 1,
    "log_tick": 2**63 - 1,
    "sequences": [("frame", 1), ("", -5)],
    "times": [("t", 10**18)],
    "timeless": True,
    "shape": [4, 5, 3],
    "source_shape": (4, 5),
    "levels": 3,
    "meter": 1000,
    "point_origin": [0.5, float("inf"), -0.0],
    "recursive": False,
    "provenance": {"uri": "a", "member": None, "content_hash": "é"},
    "producer": b"\0" * 16,
    "seq": 0,
    "index_crc32c": 2**32 - 1,
}
ROWS = [ROW, {}, ROW | {"sequences": [], "shape": [], "entity_path": ""}, {"kind": "gap", "timeless": False}]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS[1:2], ROWS[:2], ROWS[1:], ROWS * 5], ids=len)
def test_frames_rows_are_those_that_arrow_makes(rows):
    table = table_of(rows, FRAMES)
    table.validate(full=True)
    assert table.equals(pa.Table.from_pylist(rows, schema=FRAMES))


@pytest.mark.parametrize("bad", ["1", 1.5, 2**63, [1]])
def test_a_number_that_does_not_fit_is_refused(bad):
    with pytest.raises((TypeError, OverflowError)):
        array_of([1, bad], LOG.field("seq").type)


NUMBERS = [*"bhilqBHILQefd", "?"]


@pytest.mark.parametrize("code", NUMBERS)
@pytest.mark.parametrize("n", [0, 1, 21])
def test_numbers_are_those_that_arrow_makes_and_come_back(code, n):
    numbers = np.arange(2 * n)[::2].astype(code)
    array = array_of_numbers(numbers)
    array.validate(full=True)
    assert array.equals(pa.array(numbers))
    for back in (numbers_of(array), numbers_of(pa.chunked_array([array]))):
        assert back.dtype == numbers.dtype
        np.testing.assert_array_equal(back, numbers)
    np.testing.assert_array_equal(numbers_of(array[n // 2 :]), numbers[n // 2 :])


def test_numbers_in_the_other_byte_order_come_back_in_this_one():
    numbers = np.arange(5.0)
    np.testing.assert_array_equal(numbers_of(array_of_numbers(numbers.astype(numbers.dtype.newbyteorder()))), numbers)


def test_numbers_that_arrow_has_no_type_for_are_refused():
    with pytest.raises(TypeError, match="no type for numbers of dtype complex128"):
        array_of_numbers(np.zeros(2, np.complex128))


@pytest.mark.parametrize("code", NUMBERS)
def test_nulls_are_those_that_arrow_makes_and_come_back_as_asked(code):
    numbers, null = np.ones(21, code), np.arange(21) % 3 == 0
    array = array_of_numbers(numbers, null=null)
    array.validate(full=True)
    assert array.equals(pa.array(numbers, mask=null))
    for part in (slice(0, 21), slice(5, 19), slice(1, 3)):
        np.testing.assert_array_equal(numbers_of(array[part], null=0), np.where(null, 0, numbers).astype(code)[part])
    with pytest.raises(pa.ArrowInvalid, match="7 of 21 values are null"):
        numbers_of(array)


PROGRAM = """
import sys
import numpy as np
import lumatile as lt

recording = lt.new_recording("tests", "a", sink=sys.argv[1], strict=True)
for i in range(16):  # as many as are merged
    recording.set_time_sequence("frame", i)
    recording.log_image("image", np.zeros((20, 30, 3), np.uint8))
    recording.log_points("points", np.zeros((5, 3), np.float32), labels=["a"] * 5)
    recording.flush()
recording.disconnect()
reader = lt.open_store(sys.argv[1]).recording("a")
(points,) = (frame.points() for frame in reader.frames("points")[3:4])
assert points.labels == ["a"] * 5, points.labels
assert reader.frames_table().num_rows == 32
print(*sorted({"pandas"} & set(sys.modules)))
"""


def test_logging_merging_and_reading_do_not_import_pandas(tmp_path):
    pytest.importorskip("pandas")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], check=False, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
