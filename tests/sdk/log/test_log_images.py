"""Images, depth images and segmentations, from a log call to the value a sink gets.

Longer than other files: its tests share the tensors of other libraries, and three functions log much the same.
"""

import re
import time

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import lumatile as lt
from lumatile.content.bright_floats import Hint
from lumatile.content.image_content import depth_content, image_content, segmentation_content

COLORS = ["uint8", "uint16", "float16", "float32", "float64"]


@pytest.mark.parametrize(
    ("logged", "stored"),
    [
        ((4, 5), (4, 5, 1)),
        ((4, 5, 1), (4, 5, 1)),
        ((4, 5, 3), (4, 5, 3)),
        ((4, 5, 4), (4, 5, 4)),
        ((1, 4, 5), (4, 5, 1)),
        ((1, 4, 5, 3), (4, 5, 3)),
        ((1, 1, 1, 4, 5, 3), (4, 5, 3)),
        ((1, 1, 4, 5), (4, 5, 1)),
        ((1, 7, 3), (1, 7, 3)),
        ((1, 7, 1), (1, 7, 1)),
        ((1, 1, 7), (1, 7, 1)),
        ((1, 1, 1, 3), (1, 1, 3)),
        ((1, 1), (1, 1, 1)),
        ((3, 7, 4), (3, 7, 4)),
        ((0, 0), (0, 0, 1)),
        ((0, 5, 3), (0, 5, 3)),
        ((1, 0, 5, 3), (0, 5, 3)),
    ],
)
def test_shapes_become_rows_columns_channels_and_the_logged_one_is_kept(strict, values, logged, stored):
    strict.log_image("image", np.zeros(logged, np.uint8))
    assert values[0].array.shape == stored
    assert values[0].source_shape == logged


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((3, 40, 50), r"transpose\(1, 2, 0\).*permute\(1, 2, 0\)"),
        ((1, 4, 40, 50), r"transpose\(1, 2, 0\)"),
        ((5, 5, 2), r"\(5, 5, 2\)$"),
        ((2, 4, 5, 3), "one by one"),
        ((10, 20, 3, 1), r"drop the last axis: image\[..., 0\]"),
        ((5,), r"\(5,\)$"),
        ((), r"\(\)$"),
    ],
)
def test_another_shape_is_refused_with_advice(strict, shape, advice):
    with pytest.raises(ValueError, match=r"^image must be HxW, HxWx1, HxWx3 or HxWx4, not .*" + advice):
        strict.log_image("image", np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", COLORS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_dtypes_arrive_in_native_byte_order(strict, values, dtype, order):
    image = np.arange(24).reshape(2, 4, 3).astype(np.dtype(dtype).newbyteorder(order))
    strict.log_image("image", image)
    assert values[0].array.dtype == np.dtype(dtype)
    assert values[0].array.dtype.isnative
    assert values[0].source_dtype == dtype
    np.testing.assert_array_equal(values[0].array, image)


@pytest.mark.parametrize(
    "dtype", ["int8", "int32", "int64", "uint32", "bool", "complex64", "U3", "M8[ns]", "longdouble"]
)
def test_another_dtype_is_refused_by_name(strict, dtype):
    image = np.zeros((2, 2), dtype)
    with pytest.raises(TypeError, match=re.escape(image.dtype.name)):
        strict.log_image("image", image)


def test_bfloat16_becomes_float32(strict, values):
    image = np.array([[0.5, 1.0], [2.0, -3.0]], ml_dtypes.bfloat16)
    strict.log_image("image", image)
    assert values[0].source_dtype == "float32"
    np.testing.assert_array_equal(values[0].array[..., 0], [[0.5, 1.0], [2.0, -3.0]])


@given(
    image=arrays.arrays(
        st.sampled_from(COLORS).map(np.dtype),
        st.tuples(st.integers(0, 6), st.integers(0, 6), st.sampled_from([1, 3, 4])),
    ),
    layout=st.sampled_from(["C", "F", "flipped", "strided", "big-endian", "read-only"]),
)
def test_whatever_its_layout_the_value_is_a_private_copy(image, layout):
    logged = {
        "C": lambda: image,
        "F": lambda: np.asfortranarray(image),
        "flipped": lambda: image[::-1, ::-1],
        "strided": lambda: np.repeat(image, 2, axis=0)[::2],
        "big-endian": lambda: image.astype(image.dtype.newbyteorder(">")),
        "read-only": lambda: np.frombuffer(image.tobytes(), image.dtype).reshape(image.shape),
    }[layout]()
    before = logged.tobytes()
    array = image_content(logged)["array"]
    assert array.flags.c_contiguous
    assert not array.flags.writeable
    assert not np.shares_memory(array, logged) or layout == "read-only"
    if logged.flags.writeable:
        logged[...] = 1
    assert array.astype(logged.dtype).tobytes() == before


@pytest.mark.parametrize("nbytes", [100, 1 << 20])
def test_the_callers_array_may_change_as_soon_as_the_call_returns(strict, values, nbytes):
    image = np.full((nbytes // 4, 4), 7, np.uint8)
    for log in (strict.log_image, strict.log_depth_image, strict.log_segmentation_image):
        image[...] = 7
        log("x", image)
        image[...] = 9
    assert [set(value.array.ravel().tolist()) for value in values] == [{7}] * 3


class Tensor:
    """What torch's tensors do, as far as a log call sees it."""

    def __init__(self, array, *, dtype=None, gradient=False, device=1, dlpack=True):
        self.array, self.dtype, self.gradient, self.device, self.dlpack = array, dtype, gradient, device, dlpack

    def detach(self):
        return Tensor(self.array, dtype=self.dtype, device=self.device, dlpack=self.dlpack)

    def cpu(self):
        return Tensor(self.array, dtype=self.dtype, dlpack=self.dlpack)

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def __dlpack_device__(self):
        return (self.device, 0)

    def __dlpack__(self, **kwargs):
        if self.gradient or not self.dlpack or self.dtype == "torch.bfloat16":
            raise BufferError("cannot export")
        return self.array.__dlpack__(**kwargs)

    def __array__(self, dtype=None, copy=None):
        if self.gradient or self.device != 1:
            raise RuntimeError("call detach and cpu first")
        return self.array


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient": True},
        {"device": 2},
        {"gradient": True, "device": 2},
        {"dlpack": False},
        {"dtype": "torch.bfloat16"},
    ],
)
def test_tensors_are_taken_wherever_they_live(strict, values, options):
    pixels = np.arange(12, dtype=np.float32).reshape(2, 6)
    strict.log_image("image", Tensor(pixels, **options))
    np.testing.assert_array_equal(values[0].array[..., 0], pixels)
    assert not np.shares_memory(values[0].array, pixels)


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch")
    pixels = torch.rand(4, 5, 3, requires_grad=True)
    np.testing.assert_array_equal(image_content(pixels)["array"], pixels.detach().numpy())
    turned = pixels.permute(1, 0, 2)
    np.testing.assert_array_equal(image_content(turned)["array"], turned.detach().numpy())
    assert image_content(pixels.to(torch.bfloat16))["array"].dtype == np.float32


def test_an_object_with_only_the_array_interface_is_taken():
    class Legacy:
        def __init__(self, array):
            self.array, self.__array_interface__ = array, array.__array_interface__

    np.testing.assert_array_equal(image_content(Legacy(np.eye(3, dtype=np.uint8)))["array"][..., 0], np.eye(3))


def test_a_stream_given_by_mistake_is_left_attached(strict, tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        with pytest.raises(TypeError, match="image must be an array of numbers"):
            strict.log_image("image", file)
        file.write(b"still attached")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "F", "1", "P", "LA", "CMYK", "YCbCr"])
def test_pil_images_mean_what_they_show(mode):
    rgb = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    shown = Image.fromarray(rgb)
    picture = shown.convert("L").convert(mode) if mode in ("I;16", "F", "LA") else shown.convert(mode)
    array = image_content(picture)["array"]
    if mode in ("L", "1", "I;16", "F"):
        expected = np.asarray(picture.convert("L") if mode == "1" else picture)[..., np.newaxis]
    else:
        expected = np.asarray(picture.convert("RGBA" if mode in ("RGBA", "LA") else "RGB"))
    np.testing.assert_array_equal(array, expected)


def test_a_palette_image_is_logged_as_ids_where_ids_are_asked():
    mask = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    mask.putdata([0, 1, 2, 1])
    np.testing.assert_array_equal(segmentation_content(mask)["array"], [[0, 1], [2, 1]])


def test_depth_metres_default_by_dtype(strict, values):
    for dtype in COLORS:
        strict.log_depth_image("depth", np.ones((2, 3), dtype))
    strict.log_depth_image("depth", np.ones((2, 3), np.uint16), meter=5)
    strict.log_depth_image("depth", np.ones((2, 3), np.uint16), meter=np.float32(0.25))
    assert [value.meter for value in values] == [1000, 1000, 1, 1, 1, 5, 0.25]
    assert all(value.kind == "depth" and value.array.shape == (2, 3) for value in values)


@pytest.mark.parametrize("meter", [0, -1, float("nan"), float("inf"), 1e39, 1e-46, "5", None.__class__, [1, 2]])
def test_a_meter_that_is_no_length_is_refused(strict, meter):
    with pytest.raises((ValueError, TypeError), match="meter must be a number, finite and > 0 as float32, not "):
        strict.log_depth_image("depth", np.ones((2, 2), np.uint16), meter=meter)


@pytest.mark.parametrize("content", [lambda image: depth_content(image, None), segmentation_content])
@pytest.mark.parametrize(
    ("logged", "stored"),
    [
        ((4, 5), (4, 5)),
        ((4, 5, 1), (4, 5)),
        ((1, 4, 5), (4, 5)),
        ((1, 1, 4, 5), (4, 5)),
        ((1, 4, 5, 1), (4, 5)),
        ((1, 7, 1), (1, 7)),
        ((1, 1, 7), (1, 7)),
        ((1, 1), (1, 1)),
        ((0, 5), (0, 5)),
    ],
)
def test_axes_of_length_1_around_a_plane_are_dropped(content, logged, stored):
    plane = content(np.arange(np.prod(logged)).reshape(logged).astype(np.uint16))
    np.testing.assert_array_equal(plane["array"], np.arange(np.prod(logged)).reshape(stored))
    assert plane["source_shape"] == logged


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 1, 1), (2, 1, 3), (6,), ()])
def test_depth_has_two_axes(shape):
    with pytest.raises(ValueError, match=r"depth image must be HxW, HxWx1 or 1xHxW, not \("):
        depth_content(np.ones(shape, np.uint16), None)


@pytest.mark.parametrize("dtype", ["int16", "int64", "bool", "complex64"])
def test_depth_dtypes_are_checked(dtype):
    with pytest.raises(TypeError, match=dtype):
        depth_content(np.ones((2, 2), dtype), None)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        ("bool", "uint8"),
        ("int8", "uint8"),
        ("int16", "uint16"),
        ("int32", "uint16"),
        ("int64", "uint16"),
        ("uint64", "uint16"),
        (">i4", "uint16"),
    ],
)
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_ids_of_any_integer_dtype_are_stored_in_8_or_16_bits(strict, values, dtype, stored, shape):
    ids = np.array([0, 1, 1, 0, 1, 0]).reshape(shape).astype(dtype)
    strict.log_segmentation_image("ids", ids)
    assert values[0].array.dtype == stored
    assert values[0].array.tolist() == [[0, 1, 1], [0, 1, 0]]
    assert (values[0].source_shape, values[0].source_dtype) == (shape, ids.dtype.name)


@pytest.mark.parametrize(("dtype", "bad"), [("int64", -1), ("int64", 65536), ("uint64", 2**64 - 1), ("int8", -128)])
def test_an_id_that_does_not_fit_is_named(strict, dtype, bad):
    with pytest.raises(ValueError, match=f"class ids must be 0 to 65535, not {bad}$"):
        strict.log_segmentation_image("ids", np.array([[0, bad, 1]], dtype))


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 1, 1), (6,)])
def test_a_segmentation_has_one_channel(shape):
    with pytest.raises(ValueError, match="segmentation image must be HxW, HxWx1 or 1xHxW, not "):
        segmentation_content(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_float_mask_of_integers_is_taken_as_ids(strict, values, dtype):
    mask = np.array([[0, 1, -0.0], [255, 256, 2048]], dtype)
    strict.log_segmentation_image("ids", mask)
    assert values[0].array.dtype == np.uint16
    assert values[0].array.tolist() == mask.tolist()
    assert values[0].source_dtype == dtype


@pytest.mark.parametrize("bad", [0.5, -1.0, 65536.0, np.nan, np.inf])
def test_a_float_that_is_no_id_is_named(bad):
    with np.errstate(all="raise"), pytest.raises(TypeError, match=f"integers from 0 to 65535, not {bad} .*argmax"):
        segmentation_content(np.array([[1, bad]]))


def test_a_float_image_of_8_bit_values_is_hinted_at_once(strict, values, monkeypatch):
    monkeypatch.setattr(Hint, "given", False)
    image = np.zeros((200, 200), np.float32)
    image[0, 0] = np.nan
    strict.log_image("a", image + 1)
    strict.log_image("a", image + 3000)  # bright light
    image[1:] = 255
    with pytest.warns(lt.LumatileWarning, match=r"linear light .* reaches 255: .*astype\(np.uint8\)") as caught:
        strict.log_image("a", image)
    assert caught[0].filename == __file__
    strict.log_image("a", image)
    assert len(values) == 4


def test_the_programs_choice_of_floating_point_errors_is_for_its_own_arithmetic(strict, values):
    with np.errstate(all="raise"):
        strict.log_points("p", [[0, 0]], radii=1e-60, colors=[1e-60, 0.0, 0.5])
        strict.log_image("i", np.full((2, 2), 1e-60))
    assert [value.kind for value in values] == ["points", "image"]


def test_an_edge_that_no_tile_can_name_is_refused():
    with pytest.raises(ValueError, match="no edge may be longer than 2147483647"):
        image_content(np.empty((2**31, 0), np.uint8))


def test_ext_draw_order_and_timeless_go_with_the_value(strict, values):
    for log in (strict.log_image, strict.log_depth_image, strict.log_segmentation_image):
        log("x", np.zeros((2, 2), np.uint8), draw_order=3, ext={"a": np.float32(1.5)}, timeless=True)
    strict.log_image("x", np.zeros((2, 2), np.uint8))
    assert [(v.draw_order, v.ext, v.time.timeless) for v in values] == [(3.0, '{"a":1.5}', True)] * 3 + [
        (None, None, False)
    ]


@pytest.mark.parametrize("draw_order", [float("nan"), float("inf"), "3", [1, 2], object()])
def test_a_draw_order_is_a_finite_number(strict, draw_order):
    with pytest.raises(ValueError, match="draw_order must be a finite number"):
        strict.log_image("x", np.zeros((2, 2), np.uint8), draw_order=draw_order)


def test_nbytes_covers_what_the_value_holds(strict, values):
    strict.log_image("x", np.zeros((100, 100, 3), np.uint8))
    strict.log_points("p", np.zeros((1000, 3), np.float32), labels=["abc"] * 1000)
    assert 30_000 <= values[0].nbytes < 34_000
    assert values[1].nbytes >= 12_000 + 3000


@pytest.mark.alone
def test_a_call_costs_well_under_200_microseconds_beside_its_copy(strict, values):
    image, costs = np.zeros((16, 16, 3), np.uint8), []
    for _ in range(300):
        began = time.perf_counter()
        strict.log_image("image", image)
        costs.append(time.perf_counter() - began)
    assert len(values) == 300
    assert sorted(costs)[150] < 200e-6  # 13 us on an idle machine
