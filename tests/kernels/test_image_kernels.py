import numpy as np
import pytest
from skimage import data
from skimage.transform import downscale_local_mean

FORMATS = {"linear": np.float16, "srgb8": np.uint8, "rgba32float": np.float32}
FLT_MAX = float(np.finfo(np.float32).max)


def decode(image):
    """sRGB codes to linear light in float64 (IEC 61966-2-1)."""
    code = image / np.iinfo(image.dtype).max
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def encode(linear):
    """Linear light to sRGB in [0, 255], in float64."""
    edge = 0.04045 / 12.92
    return 255 * np.where(linear <= edge, linear * 12.92, 1.055 * np.maximum(linear, edge) ** (1 / 2.4) - 0.055)


def reference(image):
    """All levels of premultiplied linear RGBA, in float64 without any rounding on the way."""
    if image.dtype.kind == "u":
        color, alpha = decode(image[..., :3]), image[..., 3:] / np.iinfo(image.dtype).max
    else:
        color, alpha = image[..., :3].astype(np.float64), image[..., 3:].astype(np.float64)
    if not alpha.shape[2]:
        alpha = np.ones((*image.shape[:2], 1))
    level = np.concatenate([np.broadcast_to(color, (*image.shape[:2], 3)) * alpha, alpha], axis=2)
    levels = [level]
    while max(level.shape[:2]) > 256:
        h, w = level.shape[:2]
        ys, xs = np.arange(0, h, 2), np.arange(0, w, 2)
        below, right = np.minimum(ys + 1, h - 1), np.minimum(xs + 1, w - 1)
        level = (level[ys][:, xs] + level[ys][:, right] + level[below][:, xs] + level[below][:, right]) / 4
        levels.append(level)
    return levels


def close(actual, exact, tile_format):
    """Whether texels are the exact ones rounded once, but for errors of float32 on the way."""
    if tile_format == "srgb8":
        codes = np.concatenate([encode(exact[..., :3]), 255 * exact[..., 3:]], axis=2)
        return np.abs(actual - codes).max() <= 0.5 + 1e-3
    relative, absolute = (2**-11, 2**-25) if tile_format == "linear" else (2**-21, 1e-30)
    return (np.abs(actual.astype(np.float64) - exact) <= 1.001 * relative * np.abs(exact) + absolute).all()


def random_image(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "u":
        return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    return rng.random(shape).astype(dtype)


@pytest.mark.parametrize("tile_format", FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4", "f8"])
def test_levels_are_box_averages_of_linear_light(backend, assemble, dirty, dtype, channels, tile_format):
    image = random_image((301, 517, channels), dtype)
    blocks = backend.image(image, tile_format=tile_format, allocate=dirty)
    levels = assemble(blocks, FORMATS[tile_format], 4)
    exact = reference(image)
    assert [x.shape for x in levels] == [(301, 517, 4), (151, 259, 4), (76, 130, 4)] == [x.shape for x in exact]
    for actual, expected in zip(levels, exact, strict=True):
        assert close(actual, expected, tile_format)


@pytest.mark.parametrize("channels", [1, 3])
def test_srgb8_keeps_every_opaque_uint8_code_at_level_0(backend, assemble, channels):
    image = random_image((70, 300, channels), np.uint8)
    level = assemble(backend.image(image, tile_format="srgb8"), np.uint8, 4)[0]
    np.testing.assert_array_equal(level[..., :3], np.broadcast_to(image, (70, 300, 3)))
    assert (level[..., 3] == 255).all()


def test_linear_gives_back_every_opaque_uint8_code(backend, assemble):
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    level = assemble(backend.image(codes), np.float16, 4)[0]
    np.testing.assert_array_equal(np.rint(encode(level[..., 0].astype(np.float64))), codes[..., 0])


def test_a_real_photo_is_averaged_like_scikit_image_does(backend, assemble):
    photo = data.astronaut()
    levels = assemble(backend.image(photo), np.float16, 4)
    assert [x.shape[:2] for x in levels] == [(512, 512), (256, 256)]
    expected = downscale_local_mean(decode(photo), (2, 2, 1))
    np.testing.assert_allclose(levels[1][..., :3], expected, rtol=2**-10, atol=2**-24)
    in_gamma = downscale_local_mean(photo / 255, (2, 2, 1))
    assert encode(levels[1][..., :3].astype(np.float64)).mean() / 255 > in_gamma.mean(), "filtered in linear light"


def test_transparent_pixels_do_not_bleed_into_mips(backend, assemble):
    image = np.zeros((2, 512, 4), np.uint8)
    image[:, 0::2] = (255, 0, 0, 255)
    image[:, 1::2] = (0, 255, 0, 0)
    mip = assemble(backend.image(image), np.float16, 4)[1]
    assert mip[0, 0].tolist() == [0.5, 0, 0, 0.5]


SPECIAL = [
    # value, stored as linear, rgba32float, srgb8
    (np.nan, 0.0, 0.0, 0),
    (-0.0, 0.0, 0.0, 0),
    (np.inf, 65504.0, FLT_MAX / 4, 255),
    (-np.inf, -65504.0, -FLT_MAX / 4, 0),
    (3e38, 65504.0, FLT_MAX / 4, 255),
    (-2.0, -2.0, -2.0, 0),
    (1e-45, 0.0, float(np.float32(1e-45)), 0),
    (-1e-10, -0.0, float(np.float32(-1e-10)), 0),
    (2.0**-24, 2.0**-24, 2.0**-24, 0),
    (3 * 2.0**-25, 2 * 2.0**-24, 3 * 2.0**-25, 0),
    (2049.0, 2048.0, 2049.0, 255),
    (2051.0, 2052.0, 2051.0, 255),
    (65519.0, 65504.0, 65519.0, 255),
    (1.5, 1.5, 1.5, 255),
]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("column", range(3))
def test_special_floats_are_stored_as_designed(backend, assemble, dtype, column):
    tile_format = list(FORMATS)[[0, 2, 1][column]]
    image = np.array([row[0] for row in SPECIAL], dtype).reshape(1, -1, 1)
    level = assemble(backend.image(image, tile_format=tile_format), FORMATS[tile_format], 4)[0]
    expected = np.array([row[1 + column] for row in SPECIAL], FORMATS[tile_format])
    assert level[0, :, 0].tobytes() == expected.tobytes()


def test_float64_is_narrowed_before_anything_else(backend, assemble):
    image = np.array([1e300, -1e300, -1e-60]).reshape(1, 3, 1)
    level = assemble(backend.image(image, tile_format="rgba32float"), np.float32, 4)[0]
    assert level[0, :, 0].tobytes() == np.array([FLT_MAX / 4, -FLT_MAX / 4, 0], np.float32).tobytes()


def test_the_average_of_the_greatest_values_does_not_overflow(backend, assemble):
    image = np.full((300, 300, 3), np.inf, np.float32)
    for tile_format, greatest in (("linear", 65504), ("rgba32float", np.float32(FLT_MAX / 4))):
        for level in assemble(backend.image(image, tile_format=tile_format), FORMATS[tile_format], 4):
            assert (level[..., :3] == greatest).all()


def test_alpha_is_clamped_and_premultiplying_leaves_no_negative_zero(backend, assemble):
    image = np.array([[[1, -1, 2, 0], [1, -1, 2, -3], [1, -1, 2, 7], [1, -1, 2, np.nan]]], np.float32)
    level = assemble(backend.image(image, tile_format="rgba32float"), np.float32, 4)[0]
    zero, whole = np.zeros(4, np.float32), np.array([1, -1, 2, 1], np.float32)
    assert level.tobytes() == np.stack([zero, zero, whole, zero]).tobytes()


def test_every_float16_is_reached_by_rounding_to_the_nearest_even(backend, assemble):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = np.sort(halves[np.isfinite(halves)].astype(np.float32))
    between = (halves[:-1] / 2 + halves[1:] / 2).astype(np.float32)
    values = np.concatenate(
        [halves, between, np.nextafter(between, np.float32(1e9)), np.nextafter(between, np.float32(-1e9))]
    )
    values = np.resize(values, (256, 1024, 1))
    level = assemble(backend.image(values), np.float16, 4)[0]
    assert level[..., 0].tobytes() == (values[..., 0] + np.float32(0)).astype(np.float16).tobytes()
