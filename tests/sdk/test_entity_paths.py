"""Which entity paths there are."""

import pytest

from lumatile.entity_paths import normalise_entity_path
from lumatile.errors import InvalidTypeError, InvalidValueError


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("camera", "camera"),
        ("/camera/left", "camera/left"),
        ("camera/left/", "camera/left"),
        ("world//car", "world/car"),
        ("//a///b//", "a/b"),
        ("a b/…/ü/相机/👩‍🚀", "a b/…/ü/相机/👩‍🚀"),
        ("..a/b..", "..a/b.."),
        ("x" * 1024, "x" * 1024),
    ],
)
def test_slashes_that_part_nothing_are_dropped_and_the_rest_stays(given, normal):
    assert normalise_entity_path(given) == normal


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "/",
        "//",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        "a\0b",
        "a\nb",
        "a\x7f",
        "a\u0085b",
        "a\u2028b",
        "a\ud800",
        "x" * 1025,
        "é" * 513,
        "x" * 10_240,
        "a/\u2024\u2024/b",  # ONE DOT LEADER
        "a/\u2025/b",  # TWO DOT LEADER
        "a/\uff0e\uff0e/b",  # FULLWIDTH FULL STOP
        "a\uff0f\uff0e\uff0e\uff0fb",  # FULLWIDTH SOLIDUS
        "a/.\u200b./b",  # ZERO WIDTH SPACE
    ],
)
def test_an_empty_or_hostile_path_is_refused_with_one_short_message(hostile):
    with pytest.raises(InvalidValueError, match=r"^entity path must be 1 to 1024 bytes .*; not ") as caught:
        normalise_entity_path(hostile)
    message = str(caught.value)
    assert len(message) < 500
    assert message.encode().isascii() or message.isprintable()


@pytest.mark.parametrize("path", [None, 5, b"a", ["a", "b"], object()])
def test_a_path_that_is_no_string_is_a_type_error(path):
    with pytest.raises(InvalidTypeError, match="entity path must be a string, not "):
        normalise_entity_path(path)


def test_the_root_is_a_slash_where_it_is_allowed():
    assert normalise_entity_path("/", root=True) == ""
    assert normalise_entity_path("//", root=True) == ""
    with pytest.raises(InvalidValueError):
        normalise_entity_path("", root=True)
