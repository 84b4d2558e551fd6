import colorsys

import numpy as np
import pytest
from skimage import color

from lumatile_kernels import tables

U8, U16 = np.dtype(np.uint8), np.dtype(np.uint16)


def decode(code):
    """IEC 61966-2-1, in float64."""
    return code / 12.92 if code <= 0.04045 else ((code + 0.055) / 1.055) ** 2.4


def encode(linear):
    """Its inverse, times 255, in float64."""
    return 255 * (linear * 12.92 if linear <= decode(0.04045) else 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("dtype", "greatest"), [(U8, 255), (U16, 65535)])
def test_srgb_codes_decode_to_the_nearest_float32_and_float16(dtype, greatest):
    exact = np.array([decode(v / greatest) for v in range(greatest + 1)])
    np.testing.assert_array_equal(tables.srgb_to_linear(dtype), exact.astype(np.float32))
    np.testing.assert_array_equal(tables.srgb_to_half(dtype), exact.astype(np.float16))
    np.testing.assert_array_equal(tables.unit_interval(dtype), (np.arange(greatest + 1) / greatest).astype(np.float32))


def test_srgb_decoding_agrees_with_scikit_image():
    gray = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    luminance = color.rgb2xyz(gray)[:, 1]  # of a gray, Y is its linear light
    np.testing.assert_allclose(tables.srgb_to_linear(U8), luminance, rtol=0, atol=1e-6)


def test_every_code_survives_decoding_and_encoding():
    np.testing.assert_array_equal(tables.encode_srgb(tables.srgb_to_linear(U8)), np.arange(256))


def test_encoding_to_16_bits_is_the_formula_rounded_and_keeps_every_code():
    np.testing.assert_array_equal(tables.encode_srgb16(tables.srgb_to_linear(U16)), np.arange(65536))
    x = np.random.default_rng(0).random(10_000, np.float32)
    exact = np.array([encode(float(each)) / 255 * 65535 for each in x])
    assert np.abs(tables.encode_srgb16(x) - exact).max() <= 0.5 + 0.01  # float32 thresholds are that near
    special = np.array([[np.nan, -1, -np.inf], [2, np.inf, 1]], np.float32)
    assert tables.encode_srgb16(special).tolist() == [[0, 0, 0], [65535, 65535, 65535]]


def test_encoding_steps_exactly_at_the_thresholds():
    thresholds = tables.srgb_thresholds()
    below = np.nextafter(thresholds, np.float32(0))
    np.testing.assert_array_equal(tables.encode_srgb(thresholds), np.arange(1, 256))
    np.testing.assert_array_equal(tables.encode_srgb(below), np.arange(255))
    for k, (at, before) in enumerate(zip(thresholds.tolist(), below.tolist(), strict=True)):
        assert encode(before) < k + 0.5 + 1e-9
        assert encode(at) >= k + 0.5 - 1e-9


def test_encoding_counts_the_thresholds_that_are_not_greater():
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            rng.random(20_000, np.float32),
            (2 ** rng.uniform(-30, 1, 20_000)).astype(np.float32),
            np.arange(0x3800, 0x4000, dtype=np.uint32).repeat(2).view(np.float32),
            (np.arange(0x3800, 0x4000, dtype=np.uint32) << 16).view(np.float32),
            np.array([0, -0.0, 1, -1, 2, 1e-45, -1e-45, np.inf, -np.inf, 3e38], np.float32),
        ]
    )
    counted = (tables.srgb_thresholds()[None] <= x[:, None]).sum(axis=1)
    np.testing.assert_array_equal(tables.encode_srgb(x), counted)
    assert tables.encode_srgb(np.array([[np.nan]], np.float32)).tolist() == [[0]]


def test_encoding_is_within_rounding_of_the_formula():
    x = np.linspace(0, 1, 10_001, dtype=np.float32)
    exact = np.array([encode(v) for v in x.tolist()])
    assert np.abs(tables.encode_srgb(x) - exact).max() <= 0.5 + 1e-4


def test_alpha_rounds_half_to_even():
    codes = tables.encode_unorm8(np.array([0, 1, 0.5, 0.25, 1 / 255], np.float32))
    assert codes.tolist() == [0, 255, 128, 64, 1]
    np.testing.assert_array_equal(tables.encode_unorm8(tables.unit_interval(U8)), np.arange(256))


def test_automatic_class_colors_are_golden_ratio_hues():
    assert [bytes(c).hex() for c in tables.automatic_class_color(np.arange(4))[:, :3]] == [
        "bc4d4d",
        "4d7bbc",
        "9abc4d",
        "bc4db2",
    ]
    ids = np.array([7, 100, 999, 65535])
    for class_id, shown in zip(ids.tolist(), tables.automatic_class_color(ids).tolist(), strict=True):
        hue = float(np.float32(class_id) * np.float32(0.618034)) % 1
        expected = [encode(v) for v in colorsys.hsv_to_rgb(hue, 0.85, 0.5)]
        assert shown[:3] == pytest.approx(expected, abs=0.51)
        assert shown[3] == 255


def test_a_palette_shows_annotated_colors_and_automatic_ones_for_the_rest():
    palette = tables.class_palette({1: (1, 2, 3), 2: (4, 5, 6, 7), 300: (8, 8, 8)}, 256)
    assert palette.shape == (256, 4)
    assert palette[:4].tolist() == [[0, 0, 0, 0], [1, 2, 3, 255], [4, 5, 6, 7], [0xBC, 0x4D, 0xB2, 255]]
    assert tables.class_palette({0: (9, 9, 9), 300: (8, 8, 8)}, 65536)[[0, 300]].tolist() == [
        [9, 9, 9, 255],
        [8, 8, 8, 255],
    ]
    assert tables.class_palette({}, 256)[0].tolist() == [0, 0, 0, 0], "one palette does not leak into the next"


def test_turbo_has_its_published_colors():
    """Entries of the published table (fractions of 1, https://gist.github.com/mikhailov-work)."""
    published = {0: (0.18995, 0.07176, 0.23217), 1: (0.19483, 0.08339, 0.26149), 16: (0.25107, 0.25237, 0.63374)}
    for i, fractions in published.items():
        assert tables.turbo()[i].tolist() == pytest.approx([255 * f for f in fractions], abs=0.51)
    steps = np.abs(np.diff(tables.turbo().astype(int), axis=0))
    assert steps.max() <= 9, "it is smooth"


@pytest.mark.parametrize(
    "table",
    [
        tables.srgb_to_linear(U8),
        tables.srgb_to_half(U16),
        tables.unit_interval(U8),
        tables.srgb_thresholds(),
        tables.srgb_buckets(),
        tables.class_palette({}, 256),
        tables.turbo(),
    ],
)
def test_tables_cannot_be_written(table):
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0
