"""The number beneath the mask of a `np.ma` array is never stored."""

import numpy as np
import pytest

import lumatile as lt


def masked(values, dtype, *, at):
    array = np.ma.array(values, dtype)
    array[at] = np.ma.masked
    return array


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_a_masked_depth_is_no_depth(strict, values, dtype):
    strict.log_depth_image("d", masked([[9, 1]], dtype, at=(0, 0)))
    assert values[0].array.tolist() == [[0, 1]]
    assert values[0].array.dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_a_masked_position_is_not_finite(strict, values, dtype):
    strict.log_points("p", masked([[1, 2], [3, 4]], dtype, at=(0, 1)))
    np.testing.assert_array_equal(values[0].points.positions, [[1, np.nan], [3, 4]])
    strict.log_point("p", masked([1, 2], dtype, at=0))
    np.testing.assert_array_equal(values[1].points.positions, [[np.nan, 2]])


def test_masked_arrays_in_a_sequence_keep_their_masks(strict, values):
    strict.log_depth_image("d", [masked([9.0, 1.0], float, at=0), np.ma.array([2.0, 3.0])])
    assert values[0].array.tolist() == [[0, 1], [2, 3]]
    strict.log_point("p", [1.0, np.ma.masked])
    np.testing.assert_array_equal(values[1].points.positions, [[1, np.nan]])
    with pytest.raises(lt.InvalidValueError, match="inhomogeneous"):
        strict.log_depth_image("d", [masked([9.0, 1.0], float, at=0), [1.0]])


def test_an_object_that_gives_a_masked_array_keeps_its_mask(strict, values):
    class Variable:
        """What netCDF4's variables do."""

        def __array__(self, dtype=None, copy=None):
            return masked([[9, 1]], np.float32, at=(0, 0))

    strict.log_depth_image("d", Variable())
    assert values[0].array.tolist() == [[0, 1]]
    with pytest.raises(lt.InvalidValueError, match="image must have no masked elements, not 1 of 2"):
        strict.log_image("a", Variable())


IMAGE = masked([[1, 2], [3, 4]], np.uint8, at=(0, 0))


@pytest.mark.parametrize(
    ("argument", "log"),
    [
        ("image", lambda r: r.log_image("a", IMAGE)),
        ("image", lambda r: r.log_image("a", IMAGE.astype(np.float32))),
        ("segmentation image", lambda r: r.log_segmentation_image("a", IMAGE)),
        ("radii", lambda r: r.log_points("a", [[0, 0]] * 4, radii=masked([1] * 4, float, at=0))),
        ("colors", lambda r: r.log_points("a", [[0, 0]], colors=masked([1, 2, 3], np.uint8, at=0))),
        ("class_ids", lambda r: r.log_points("a", [[0, 0]], class_ids=np.ma.masked)),
        ("identifiers", lambda r: r.log_points("a", [[0, 0]], identifiers=masked([1], int, at=0))),
    ],
)
def test_where_nothing_stands_for_a_masked_element_it_is_refused(strict, values, argument, log):
    with pytest.raises(lt.InvalidValueError, match=f"^{argument} must have no masked elements, not 1 of .*filled"):
        log(strict)
    assert not len(values)


def test_a_mask_that_hides_nothing_is_no_mask(strict, values):
    for array in (np.ma.array(np.eye(3, dtype=np.uint8)), np.ma.array(np.eye(3, dtype=np.uint8), mask=False)):
        strict.log_image("a", array)
        strict.log_segmentation_image("a", array)
    assert [value.array.reshape(3, 3).tolist() for value in values] == [np.eye(3).tolist()] * 4
