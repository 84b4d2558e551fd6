"""Whatever is logged comes back exactly, through queue, pipeline and files: in any dtype, shape and layout."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import lumatile as lt

EDGES = st.one_of(st.integers(0, 9), st.sampled_from([255, 256, 257, 300]))
FILES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module", params=["linear", "srgb8", "rgba32float"])
def logged(request, tmp_path_factory):
    """Log with a function and give the frame that is read back."""
    store = tmp_path_factory.mktemp("store")
    recording = lt.new_recording("app", "run", sink=store, tile_format=request.param, strict=True)
    numbers = itertools.count()
    reader = lt.open_store(store).recording("run")

    def logged(log):
        path = f"value/{next(numbers)}"
        log(recording, path)
        recording.flush()
        reader.refresh()
        return reader.latest_at(path)

    yield logged
    recording.disconnect()


@st.composite
def arrays(draw, dtypes, channels):
    """An array of any size, also empty, of extreme values too, in any memory layout."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = (draw(EDGES), draw(EDGES), *draw(st.sampled_from(channels)))
    if draw(st.booleans()) and np.prod(shape) < 500:
        array = draw(hnp.arrays(dtype, shape))
    else:
        rng = np.random.default_rng(draw(st.integers(0, 9)))
        raw = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
        array = raw.view(dtype)[..., 0]
    match draw(st.sampled_from(["C", "Fortran", "reversed", "strided", "big-endian", "read-only", "a part"])):
        case "Fortran":
            array = np.asfortranarray(array)
        case "reversed":
            array = array[::-1, ::-1]
        case "strided":
            array = np.repeat(array, 2, axis=1)[:, ::2]
        case "big-endian":
            array = array.astype(dtype.newbyteorder(">"))
        case "read-only":
            array = array.copy()
            array.flags.writeable = False
        case "a part":
            array = np.pad(array, [(1, 2)] * array.ndim)[(slice(1, -2),) * array.ndim]
    return array


def assert_same(source, array):
    assert source.shape == array.shape
    assert source.dtype == array.dtype.newbyteorder("=")
    assert source.tobytes() == np.ascontiguousarray(array).astype(source.dtype).tobytes()  # NaN's payloads too


@FILES
@given(image=arrays(["u1", "u2", "f2", "f4", "f8"], [(), (1,), (3,), (4,)]))
def test_images_come_back_bit_for_bit(logged, image):
    if image.ndim == 3 and image.shape[0] == 1 and image.shape[2] not in (1, 3, 4):
        return
    assert_same(logged(lambda rec, path: rec.log_image(path, image)).source(), image)


@FILES
@given(
    depth=arrays(["u1", "u2", "f2", "f4", "f8"], [()]), meter=st.sampled_from([None, 1, 5000, 0.3, 1e-30, 1e-38, 3e38])
)
def test_depth_images_come_back_bit_for_bit(logged, depth, meter):
    assert_same(logged(lambda rec, path: rec.log_depth_image(path, depth, meter=meter)).source(), depth)


@FILES
@given(ids=arrays(["u1", "u2"], [(), (1,)]), wider=st.sampled_from([None, "i4", "i8", "u8"]))
def test_segmentations_come_back_bit_for_bit(logged, ids, wider):
    ids = ids if wider is None else ids.astype(wider)
    assert_same(logged(lambda rec, path: rec.log_segmentation_image(path, ids)).source(), ids)


@FILES
@given(data=st.data())
def test_points_come_back_bit_for_bit(logged, data):
    count = data.draw(st.integers(0, 20))
    dtype = data.draw(st.sampled_from(["f4", "f8", "i4", ">f8"]))
    given_columns = {"positions": data.draw(hnp.arrays(dtype, (count, data.draw(st.sampled_from([2, 3])))))}
    if data.draw(st.booleans()):
        given_columns["colors"] = data.draw(hnp.arrays("u1", (count, data.draw(st.sampled_from([3, 4])))))
    if data.draw(st.booleans()):
        given_columns["radii"] = data.draw(hnp.arrays("f4", count, elements=st.floats(0, 1e6, width=32)))
    if data.draw(st.booleans()):
        given_columns["identifiers"] = data.draw(hnp.arrays("u8", count))
    if data.draw(st.booleans()):
        given_columns["labels"] = data.draw(st.lists(st.text(max_size=5), min_size=count, max_size=count))
    if data.draw(st.booleans()):
        given_columns["class_ids"] = data.draw(hnp.arrays("u2", count))
    frame = logged(lambda rec, path: rec.log_points(path, **given_columns))
    source = frame.source()
    for name, column in given_columns.items():
        if isinstance(column, list):
            assert source[name] == column
        else:
            assert_same(source[name], column)
    points = frame.points()
    assert len(points.positions) == count
    assert points.positions.tobytes() == given_columns["positions"].astype(points.positions.dtype).tobytes()


def test_a_jpeg_comes_back_byte_for_byte(logged):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 130, 3), np.uint8)).save(file, "JPEG")
    frame = logged(lambda rec, path: rec.log_image_file(path, img_bytes=file.getvalue()))
    assert frame.source() == file.getvalue()
    assert frame.shape == (100, 130, 3)
