"""Points, from a log call to the columns a sink gets."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import lumatile as lt
from lumatile.content.point_content import points_content


def columns(values):
    return values[-1].points


def test_no_positions_are_the_empty_set(strict, values):
    empties = [None, [], np.empty((0, 2)), np.empty((0, 3), np.float32)]
    for empty in empties:
        strict.log_points("p", empty, colors=[255, 0, 0], radii=1, labels="x", class_ids=3)
    strict.log_point("p")
    strict.log_point("p", [])
    for value in values:
        assert len(value.points) == 0
        assert value.points.positions.shape == (0, 3)
        assert value.error is None
    assert columns(values[:1]).colors.shape == (0, 4)
    assert columns(values[:1]).labels == []


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1), (1, 3, 1), (2,), (2, 1)])
def test_a_position_is_any_array_of_two_or_three_numbers(strict, values, shape):
    position = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    strict.log_point("p", position)
    np.testing.assert_array_equal(columns(values).positions, [position.ravel()])
    assert columns(values).source["positions"].shape == shape
    assert values[0].source_shape == shape


@pytest.mark.parametrize("position", [[1], [1, 2, 3, 4], 5, [[1, 2], [3, 4]]])
def test_a_position_of_another_size_is_refused(strict, position):
    with pytest.raises(ValueError, match="position must have 2 or 3 coordinates, not shape "):
        strict.log_point("p", position)


@pytest.mark.parametrize("positions", [[1, 2, 3], np.zeros((3, 4)), np.zeros((2, 3, 3)), 5])
def test_positions_are_n_by_2_or_3(strict, positions):
    with pytest.raises(ValueError, match="positions must be Nx2 or Nx3, not "):
        strict.log_points("p", positions)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int8", "float32"),
        ("uint16", "float32"),
        ("bool", "float32"),
        (">f4", "float32"),
        (">i8", "float32"),
    ],
)
def test_positions_are_float32_where_that_is_exact(strict, values, dtype, stored):
    positions = np.array([[0, 1], [1, 1]]).astype(dtype)
    strict.log_points("p", positions)
    assert columns(values).positions.dtype == stored
    np.testing.assert_array_equal(columns(values).positions, positions)
    assert columns(values).source["positions"].dtype == positions.dtype.newbyteorder("=")


@pytest.mark.parametrize(("largest", "stored"), [(2**24, "float32"), (2**24 + 1, "float64"), (-(2**24) - 1, "float64")])
def test_large_integer_positions_are_float64(strict, values, largest, stored):
    strict.log_points("p", np.array([[largest, 0]], np.int64))
    assert columns(values).positions.dtype == stored
    assert columns(values).positions[0, 0] == largest


def test_zeros_are_values(strict, values):
    strict.log_point("p", [0, 0, 0], radius=0, class_id=0, keypoint_id=0, color=[0, 0, 0, 0], label="")
    point = columns(values)
    assert point.positions.tolist() == [[0, 0, 0]]
    assert point.radii.tolist() == [0]
    assert point.class_ids.tolist() == [0]
    assert point.keypoint_ids.tolist() == [0]
    assert point.colors.tolist() == [[0, 0, 0, 0]]
    assert point.labels == [""]


def test_a_keypoint_without_a_class_is_of_class_0(strict, values):
    strict.log_point("p", [1, 2], keypoint_id=7)
    strict.log_points("p", [[1, 2], [3, 4]], keypoint_ids=[7, 8])
    assert [v.points.class_ids.tolist() for v in values] == [[0], [0, 0]]
    assert [v.points.keypoint_ids.tolist() for v in values] == [[7], [7, 8]]
    assert "class_ids" not in columns(values).source


@pytest.mark.parametrize(
    ("argument", "one", "many"),
    [
        ("colors", [1, 2, 3], [[1, 2, 3, 4]] * 4),
        ("radii", 0.5, [0.5, 1, 2, 3]),
        ("labels", "x", ["x", None, "", "y"]),
        ("class_ids", 9, [9, 0, 65535, 1]),
        ("keypoint_ids", 9, [9, 0, 65535, 1]),
        ("identifiers", 9, [2**64 - 1, 0, 1, 2]),
    ],
)
def test_one_for_all_points_or_one_a_point(strict, values, argument, one, many):
    positions = np.zeros((4, 3), np.float32)
    for argued in (one, many):
        strict.log_points("p", positions, **{argument: argued})
        assert len(getattr(columns(values), argument)) == 4
    with pytest.raises(ValueError, match=f"{argument}: 4 for 5 points; give 1 or 5"):
        strict.log_points("p", np.zeros((5, 3)), **{argument: many})


COLUMNS = {
    "colors": [[1, 2, 3]] * 3,
    "radii": [1, 2, 3],
    "labels": ["a", "b", "c"],
    "class_ids": [1, 2, 3],
    "keypoint_ids": [0, 1, 2],
    "identifiers": [1, 2, 3],
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("positions", [None, [], np.empty((0, 3))])
def test_columns_of_any_length_go_with_zero_points(strict, values, column, positions):
    strict.log_points("p", positions, **{column: COLUMNS[column]})
    assert len(columns(values)) == 0
    assert len(getattr(columns(values), column)) == 0
    assert len(columns(values).source[column]) == 3


@pytest.mark.parametrize("column", COLUMNS)
def test_an_empty_column_is_no_column(strict, values, column):
    strict.log_points("p", [[1, 2], [3, 4]], **{column: []})
    strict.log_points("p", [[1, 2], [3, 4]], **{column: np.empty((0, 3)) if column == "colors" else np.empty(0, int)})
    for value in values:
        assert (len(value.points), getattr(value.points, column)) == (2, None)
        assert (value.points.class_ids, list(value.points.source)) == (None, ["positions"])


def test_a_missing_label_is_none_and_ids_may_be_whole_floats(strict, values):
    for labels in (
        ["a", float("nan"), None],
        np.array(["a", np.nan, None], object),
        pd.Series(["a", np.nan, None]),
        pd.Series(["a", pd.NA, None], dtype="string"),
        pa.array(["a", None, None]),
        pa.chunked_array([["a"], [None, None]]),
        list(pa.array(["a", None, None])),
        np.ma.array(["a", "b", "c"], mask=[0, 1, 1]),
    ):
        strict.log_points("p", np.zeros((3, 2)), labels=labels)
        assert columns(values).labels == ["a", None, None]
    for missing in (float("nan"), pd.NA, np.ma.masked, pa.scalar(None, pa.string())):
        strict.log_point("p", [0, 0], label=missing)
        assert columns(values).labels == [None]
    strict.log_points("p", [[0, 0]] * 2, class_ids=[1.0, 65535.0])
    assert columns(values).class_ids.tolist() == [1, 65535]
    strict.log_points("p", np.zeros((2, 2)), labels=pa.scalar("x"))
    assert columns(values).labels == ["x", "x"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"class_ids": -1}, ValueError, "class_ids must be 0 to 65535, not -1"),
        ({"class_ids": [0, 65536]}, ValueError, "class_ids must be 0 to 65535, not 65536"),
        ({"keypoint_ids": 1.5}, TypeError, "keypoint_ids must be integers from 0 to 65535, not 1.5"),
        ({"class_ids": [1, np.nan]}, TypeError, "class_ids must be integers from 0 to 65535, not nan"),
        ({"identifiers": 1.0}, TypeError, "identifiers must be integers, not of dtype float64"),
        ({"identifiers": -5}, ValueError, "identifiers must be 0 to .*, not -5"),
        ({"identifiers": ["a"]}, TypeError, "identifiers must be an array of numbers"),
        ({"radii": "big"}, TypeError, "radii must be an array of numbers"),
        ({"radii": np.ones((2, 2))}, ValueError, r"radii must be one number or one per point, not of shape \(2, 2\)"),
        ({"colors": [1, 2]}, ValueError, r"colors must be RGB or RGBA, .* not of shape \(2,\)"),
        ({"colors": np.zeros((2, 2, 3))}, ValueError, r"not of shape \(2, 2, 3\)"),
        ({"colors": "red"}, TypeError, "colors must be an array of numbers"),
        ({"labels": [1, 2]}, TypeError, "labels must be strings or None, not 1"),
        ({"labels": 5}, TypeError, "labels must be a string or a sequence of strings, not 5"),
        ({"labels": "\ud800"}, ValueError, "labels must be valid Unicode"),
    ],
)
def test_what_breaks_a_rule_is_named(strict, arguments, error, message):
    with pytest.raises(error, match=message):
        strict.log_points("p", [[0, 0], [1, 1]], **arguments)


def test_integer_colors_are_srgb_as_they_are(strict, values):
    for colors in ([1, 2, 3], (1, 2, 3), np.array([1, 2, 3], np.uint8), np.array([[1, 2, 3]], ">u2")):
        strict.log_points("p", [[0, 0]] * 2, colors=colors)
        assert columns(values).colors.tolist() == [[1, 2, 3, 255]] * 2
    strict.log_point("p", [0, 0], color=[1, 2, 3, 4])
    assert columns(values).colors.tolist() == [[1, 2, 3, 4]]


def test_float_colors_are_linear_light_with_linear_alpha(strict, values):
    linear = np.linspace(0, 1, 50)
    strict.log_points("p", np.zeros((50, 2)), colors=np.stack([linear] * 4, axis=1))
    # IEC 61966-2-1, in float64
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(columns(values).colors[:, 0], np.rint(srgb * 255))
    np.testing.assert_array_equal(columns(values).colors[:, 3], np.rint(np.float32(linear) * np.float32(255)))


def test_float_colors_are_gamma_for_those_who_mean_it(name, values):
    recording = lt.new_recording("tests", sink=f"memory://{name}", strict=True, float_colors="srgb")
    recording.log_point("p", [0, 0], color=[0.2, 0.4, 0.6])
    recording.disconnect()
    assert columns(values).colors.tolist() == [[51, 102, 153, 255]]


@pytest.mark.parametrize(
    ("colors", "drawn", "warning"),
    [
        ([[300, -5, 7]], [255, 0, 7, 255], "colors: integers outside 0-255 were clamped"),
        ([[2.0, -1.0, 1.0]], [255, 0, 255, 255], "colors: floats outside 0-1 were clamped"),
        ([[float("nan"), float("inf"), 1.0]], [0, 255, 255, 255], "colors: floats outside 0-1 were clamped"),
    ],
)
def test_colors_out_of_range_are_clamped_with_one_warning(strict, values, colors, drawn, warning):
    with pytest.warns(lt.LumatileWarning, match=warning) as caught:
        strict.log_points("p", [[0, 0]], colors=colors)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert columns(values).colors.tolist() == [drawn]
    np.testing.assert_array_equal(columns(values).source["colors"], colors)


NUMBERS = st.one_of(arrays.integer_dtypes(endianness="?"), arrays.unsigned_integer_dtypes(endianness="?"))
FLOATS = arrays.floating_dtypes(endianness="?", sizes=(16, 32, 64))


@given(
    positions=arrays.arrays(st.one_of(NUMBERS, FLOATS), st.tuples(st.integers(0, 5), st.sampled_from([2, 3]))),
    radii=arrays.arrays(FLOATS, st.just((1,))),
    class_ids=arrays.arrays(NUMBERS, st.just((1,)), elements=st.integers(0, 100)),
)
def test_the_source_is_the_arguments_bit_for_bit(positions, radii, class_ids):
    arguments = {"positions": positions, "radii": radii, "class_ids": class_ids, "labels": ["a"]}
    points = points_content(arguments, "linear")["points"]
    assert set(points.source) == set(arguments)
    assert points.source["labels"] == ["a"]
    for name in ("positions", "radii", "class_ids"):
        kept = points.source[name]
        assert kept.dtype == arguments[name].dtype.newbyteorder("=")
        assert kept.astype(arguments[name].dtype).tobytes() == arguments[name].tobytes()
        assert kept.shape == arguments[name].shape
        assert not np.shares_memory(kept, arguments[name])
    for column in (points.positions, points.radii, points.class_ids):
        assert column.flags.c_contiguous
        assert not column.flags.writeable


def test_the_callers_arrays_may_change_as_soon_as_the_call_returns(strict, values):
    positions, colors = np.ones((2, 3), np.float32), np.ones((2, 4), np.uint8)
    radii, class_ids, labels = np.ones(2, np.float32), np.ones(2, np.uint16), ["a", "b"]
    strict.log_points("p", positions, colors=colors, radii=radii, class_ids=class_ids, labels=labels)
    for array in (positions, colors, radii, class_ids):
        array[...] = 5
    labels[0] = "changed"
    point = columns(values)
    assert {point.positions.max(), point.colors.max(), point.radii.max(), point.class_ids.max()} == {1}
    assert point.labels == point.source["labels"] == ["a", "b"]


def test_what_needs_no_conversion_is_held_once(strict, values):
    strict.log_points("p", np.ones((9, 3), np.float32), colors=np.ones((9, 4), np.uint8), class_ids=np.ones(9, "u2"))
    point = columns(values)
    assert point.positions is point.source["positions"]
    assert np.shares_memory(point.colors, point.source["colors"])
    assert np.shares_memory(point.class_ids, point.source["class_ids"])


def test_ext_draw_order_and_timeless_go_with_the_points(strict, values):
    strict.log_point("p", [0, 0], draw_order=1, ext={"a": 1}, timeless=True)
    strict.log_points("p", [[0, 0]], draw_order=1, ext={"a": 1}, timeless=True)
    assert [(v.draw_order, v.ext, v.time.timeless) for v in values] == [(1.0, '{"a":1}', True)] * 2
