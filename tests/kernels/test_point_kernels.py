import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lumatile_kernels.host import numpy_points

try:
    from lumatile_kernels.host import numba_points
except ImportError:
    numba_points = None

F32_MAX = float(np.finfo(np.float32).max)


def clouds():
    return st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(0, 40), st.sampled_from([2, 3])),
            elements=st.one_of(
                st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, F32_MAX, -F32_MAX, np.nan, np.inf, -np.inf]),
                st.floats(width=32 if dtype == np.float32 else 64),
                st.integers(-4, 4).map(float),
            ),
            fill=st.nothing(),
        )
    )


def spelled_out(positions):
    """DESIGN's rule for points, one point after another: origin, stored (offsets or None, logged row), counts."""
    points = [[float(x) for x in p] for p in positions]
    dimensions = positions.shape[1]
    finite = [p for p in points if all(map(math.isfinite, p))]
    origin = [min((p[a] for p in finite), default=0.0) for a in range(dimensions)]
    with np.errstate(over="ignore", invalid="ignore"):
        offsets = [[np.float32(np.float64(p[a]) - origin[a]) for a in range(dimensions)] for p in points]
    offsets = [o if all(map(math.isfinite, o)) else None for o in offsets]
    extent = max((x for o in offsets if o for x in o), default=np.float32(0))

    def sort_key(row):
        if offsets[row] is None:
            return "~"  # behind all digits
        if extent < 2.0**-100:
            return "0" * 63
        scale = np.float32(2**21) / extent
        bits = [format(min(math.floor(x * scale), 2**21 - 1), "021b") for x in offsets[row]]
        return "".join(b[i] for i in range(21) for b in reversed(bits))

    by_key = sorted(range(len(points)), key=sort_key)  # Python's sort is stable
    k = 0
    while -(-len(points) // 4**k) > 65_536:
        k += 1

    def level(rank):
        n = 0
        while n < k and rank % 4 ** (n + 1) == 0:
            n += 1
        return n

    levels = [level(rank) for rank in range(len(points))]
    stored = [by_key[rank] for n in range(k, -1, -1) for rank in range(len(points)) if levels[rank] == n]
    counts = tuple(levels.count(n) for n in range(k + 1))
    return origin, [offsets[row] for row in stored], stored, counts


def bits(array):
    return array.dtype, array.shape, array.tobytes()


def assert_same_bits(a, b):
    assert bits(a.origin) == bits(b.origin)
    assert bits(a.positions) == bits(b.positions)
    assert bits(a.order) == bits(b.order)
    assert a.counts == b.counts


@pytest.fixture(params=["numpy", "numba"])
def order_points(request):
    if request.param == "numba" and numba_points is None:
        pytest.skip("numba is not installed")
    return (numpy_points if request.param == "numpy" else numba_points).order_points


@given(clouds())
@example(np.array([[0.0, 2.0**-100], [2.0**-101, 0.0]]))
@example(np.array([[0.0, 2.0**-101], [2.0**-102, 0.0]]))
@example(np.array([[-F32_MAX, 0.0], [F32_MAX, 1.0], [0.0, -1.0]]))
@example(np.array([[-1.7e308, 0.0, 0.0], [1.7e308, 1.0, 2.0]]))
@example(np.array([[0.0, -0.0], [-0.0, 0.0]], np.float32))
def test_the_specification_is_the_design_spelled_out(positions):
    origin, offsets, rows, counts = spelled_out(positions)
    result = numpy_points.order_points(positions)
    assert result.origin.tolist() == origin
    assert not np.signbit(result.origin[result.origin == 0]).any()
    assert result.order.tolist() == rows
    assert result.counts == counts
    for stored, expected in zip(result.positions, offsets, strict=True):
        if expected is None:
            assert stored.view(np.uint32).tolist() == [0x7FC00000] * len(stored)
        else:
            assert stored.tolist() == [float(x) for x in expected]
            assert not np.signbit(stored).any()


@pytest.mark.skipif(numba_points is None, reason="numba is not installed")
@settings(deadline=None)
@given(clouds())
def test_numba_gives_the_bits_of_numpy(positions):
    assert_same_bits(numba_points.order_points(positions), numpy_points.order_points(positions))


@pytest.mark.skipif(numba_points is None, reason="numba is not installed")
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numba_gives_the_bits_of_numpy_for_large_clouds(dimensions, dtype):
    random = np.random.default_rng(1)
    positions = (random.normal(size=(300_001, dimensions)) * [1e3, 10, 1][:dimensions]).astype(dtype)
    positions[random.random(300_001) < 0.05, 0] = np.nan
    positions[::3] = np.round(positions[::3])  # many equal positions
    assert_same_bits(numba_points.order_points(positions), numpy_points.order_points(positions))


@pytest.mark.parametrize("points", [0, 1, 65_536, 65_537, 4 * 65_536, 4 * 65_536 + 1])
def test_the_coarsest_level_has_at_most_65536_points_and_no_fewer_than_it_must(order_points, points):
    result = order_points(np.zeros((points, 2)))
    coarsest = len(result.counts) - 1
    assert sum(result.counts) == points
    assert result.counts[coarsest] == -(-points // 4**coarsest) <= 65_536
    assert coarsest == 0 or -(-points // 4 ** (coarsest - 1)) > 65_536


def test_levels_nest_the_ranks_that_four_divides(order_points):
    # on a line, Morton order is the order along it
    points = 70_000
    line = np.zeros((points, 3), np.float32)
    line[:, 0] = np.arange(points)
    result = order_points(line[::-1].copy())
    assert result.counts == (52_500, 17_500)
    assert result.positions[:17_500, 0].tolist() == list(range(0, points, 4))
    assert result.positions[17_500:, 0].tolist() == [i for i in range(points) if i % 4]
    assert (points - 1 - result.order).tolist() == result.positions[:, 0].tolist()


def test_each_point_is_stored_once_and_origin_plus_offset_is_the_point(order_points):
    positions = np.random.default_rng(2).uniform(-50, 50, (100_000, 3)).astype(np.float32)
    result = order_points(positions)
    assert np.array_equal(np.sort(result.order), np.arange(100_000))
    back = (result.origin + result.positions).astype(np.float32)
    assert np.abs(back - positions[result.order]).max() <= np.spacing(np.float32(100))


def test_clouds_far_from_the_origin_keep_their_detail(order_points):
    near = np.random.default_rng(3).integers(0, 1 << 20, (1000, 3)) / 1024  # exact in float32
    far = near + np.array([5e5, 4e6, 0])  # metres, as in UTM
    result = order_points(far)
    assert np.array_equal(result.positions + result.origin, far[result.order])


def test_points_of_one_morton_cell_stay_in_logged_order_and_the_non_finite_come_last(order_points):
    positions = np.array([[1, 1], [np.nan, 0], [0, 0], [1, 1], [0, np.inf], [0, 0]], np.float32)
    assert order_points(positions).order.tolist() == [2, 5, 0, 3, 1, 4]
