"""What class and keypoint ids are called, and how they are colored."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lumatile as lt
from lumatile.annotations import AnnotationContext
from lumatile.content.class_descriptions import annotation_context

AUTOMATIC = [(0xBC, 0x4D, 0x4D, 255), (0x4D, 0x7B, 0xBC, 255), (0x9A, 0xBC, 0x4D, 255), (0xBC, 0x4D, 0xB2, 255)]
"""Of ids 0-3, as the design states them."""


def u2(*ids):
    return np.array(ids, np.uint16)


def as_tuples(colors):
    return [tuple(color) for color in colors.tolist()]


PERSON = lt.ClassDescription(
    lt.AnnotationInfo(2, "person", (10, 20, 30)),
    keypoint_annotations=[(0, "nose", (1, 2, 3)), (1, "ear"), lt.AnnotationInfo(7, None, (4, 5, 6, 7))],
    keypoint_connections=[(0, 1), (1, 7)],
)
CONTEXT = annotation_context([(1, "car"), PERSON])


@pytest.mark.parametrize(
    "description",
    [
        (3, "road", (1, 2, 3)),
        [3, "road", [1, 2, 3]],
        lt.AnnotationInfo(3, "road", (1, 2, 3)),
        lt.ClassDescription((3, "road", [1, 2, 3])),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_one_description_or_an_iterable_of_any_form(strict, values, description, several):
    strict.log_annotation_context("/", iter([description]) if several else description)
    assert json.loads(values[0].body) == {"classes": [{"id": 3, "label": "road", "color": [1, 2, 3, 255]}]}
    assert (values[0].kind, values[0].entity_path, values[0].time.timeless) == ("annotation_context", "", True)


def test_a_context_on_the_timelines(strict, values):
    strict.set_time_sequence("frame", 3)
    strict.log_annotation_context("camera", [], timeless=False)
    assert (values[0].entity_path, values[0].time.sequences) == ("camera", {"frame": 3})
    assert AnnotationContext.from_json(values[0].body).classes == {}


def test_a_description_without_arguments_is_class_0():
    assert list(annotation_context(lt.ClassDescription()).classes) == [0]


def test_of_several_of_one_class_the_last_holds():
    assert annotation_context([(1, "a"), (1, "b")]).point_labels(u2(1)) == ["b"]


def test_float_colors_are_linear():
    context = annotation_context((1, "half", (0.5, 0.0, 1.0, 0.5)))
    assert as_tuples(context.point_colors(u2(1))) == [(188, 0, 255, 128)]


def test_connections_are_pairs_flat_or_not():
    for connections in ([(0, 1), (1, 2)], [0, 1, 1, 2], np.array([[0, 1], [1, 2]]), np.array([0, 1, 1, 2])):
        context = annotation_context(lt.ClassDescription((1, "a"), keypoint_connections=connections))
        assert context.classes[1].connections == ((0, 1), (1, 2))


@pytest.mark.parametrize(
    ("descriptions", "error", "message"),
    [
        ((65536, "a"), ValueError, "class description: id must be 0 to 65535, not 65536"),
        ((-1, "a"), ValueError, "id must be 0 to 65535, not -1"),
        (lt.AnnotationInfo("a"), TypeError, "id must be an integer, not 'a'"),
        ((1,), TypeError, "must be an AnnotationInfo or "),
        ((1, "a", (1, 2, 3), 4), TypeError, "must be an AnnotationInfo or "),
        ((1, 2), TypeError, "label must be a string or None, not 2"),
        ((1, "a", (1, 2)), ValueError, "color must be RGB or RGBA"),
        ((1, "a", [[1, 2, 3], [4, 5, 6]]), ValueError, "color must be one RGB or RGBA"),
        ((1, "a", "red"), TypeError, "color must be an array of numbers"),
        ("road", TypeError, "class descriptions must be an iterable, not 'road'"),
        (5, TypeError, "class descriptions must be an iterable, not 5"),
        ([5], TypeError, "class description must be an AnnotationInfo or .*, not 5"),
        (lt.ClassDescription((1, "a"), [5]), TypeError, "keypoint annotation must be"),
        (lt.ClassDescription((1, "a"), 5), TypeError, "keypoint_annotations must be an iterable"),
        (lt.ClassDescription((1, "a"), None, [0, 1, 2]), ValueError, "keypoint_connections must be pairs .*, not 3"),
        (lt.ClassDescription((1, "a"), None, [(0, 1, 2)]), ValueError, "keypoint_connections must be pairs"),
        (lt.ClassDescription((1, "a"), None, [(0, 65536)]), ValueError, "keypoint id must be 0 to 65535"),
    ],
)
def test_what_is_no_description_is_refused(strict, descriptions, error, message):
    with pytest.raises(error, match=message):
        strict.log_annotation_context("/", descriptions)


ids = st.integers(0, 65535)
infos = st.builds(
    lt.AnnotationInfo,
    ids,
    st.none() | st.text(max_size=5),
    st.none() | st.tuples(*[st.integers(0, 255)] * 4),
)


@given(
    st.lists(
        st.builds(
            lt.ClassDescription,
            infos,
            st.none() | st.lists(infos, max_size=3),
            st.none() | st.lists(st.tuples(ids, ids), max_size=3),
        ),
        max_size=4,
    )
)
def test_a_context_survives_the_store(descriptions):
    context = annotation_context(descriptions)
    back = AnnotationContext.from_json(context.to_json())
    assert back.classes == context.classes
    assert back.palette_hash == context.palette_hash
    for wanted in descriptions:
        assert context.classes[wanted.info.id].info.id == wanted.info.id
    last = {each.info.id: each for each in descriptions}
    assert {i: each.info.label for i, each in last.items()} == {i: each.info.label for i, each in back.classes.items()}


def test_colors_of_points_keypoint_then_class_then_automatic():
    colors = CONTEXT.point_colors(u2(2, 2, 2, 2, 1, 0, 3, 3), u2(0, 1, 7, 9, 0, 0, 0, 7))
    person = (10, 20, 30, 255)
    assert as_tuples(colors) == [
        (1, 2, 3, 255),
        person,  # the ear has a label and no color
        (4, 5, 6, 7),
        person,  # no such keypoint
        AUTOMATIC[1],  # the car has a label and no color
        AUTOMATIC[0],
        AUTOMATIC[3],
        AUTOMATIC[3],
    ]
    assert as_tuples(CONTEXT.point_colors(u2(2, 1, 0))) == [person, AUTOMATIC[1], AUTOMATIC[0]]


def test_labels_of_points_keypoint_then_class_then_none():
    labels = CONTEXT.point_labels(u2(2, 2, 2, 2, 1, 0, 3), u2(0, 1, 7, 9, 0, 0, 0))
    assert labels == ["nose", "ear", "person", "person", "car", None, None]
    assert CONTEXT.point_labels(u2(2, 1, 0)) == ["person", "car", None]
    assert CONTEXT.point_labels(u2()) == []


def test_without_annotations_everything_is_automatic():
    nothing = AnnotationContext()
    assert as_tuples(nothing.point_colors(u2(0, 1, 2, 3), u2(0, 0, 0, 0))) == AUTOMATIC
    assert nothing.point_labels(u2(0, 1), u2(0, 0)) == [None, None]
    assert AnnotationContext.from_json(nothing.to_json()).palette_hash == nothing.palette_hash


@pytest.mark.parametrize("size", [256, 65536])
def test_the_palette_of_a_segmentation(size):
    assert AnnotationContext().palette(size).shape == (size, 4)
    assert as_tuples(AnnotationContext().palette(size)[:4]) == [(0, 0, 0, 0), *AUTOMATIC[1:]]
    assert as_tuples(CONTEXT.palette(size)[:4]) == [(0, 0, 0, 0), AUTOMATIC[1], (10, 20, 30, 255), AUTOMATIC[3]]
    assert as_tuples(annotation_context((0, "sky")).palette(size)[:1]) == [AUTOMATIC[0]]
    assert as_tuples(annotation_context((0, "sky", (9, 8, 7, 6))).palette(size)[:1]) == [(9, 8, 7, 6)]


def test_an_id_beyond_a_small_palette_is_left_out():
    assert annotation_context((300, "a", (1, 2, 3))).palette(256).shape == (256, 4)
    assert as_tuples(annotation_context((300, "a", (1, 2, 3))).palette(65536)[300:301]) == [(1, 2, 3, 255)]


def test_the_hash_follows_colors_and_nothing_else():
    base = annotation_context([(1, "a", (1, 2, 3)), (2, "b")]).palette_hash
    assert annotation_context([(2, "other"), (1, None, (1, 2, 3, 255))]).palette_hash == base
    assert annotation_context([(1, "a", (1, 2, 4)), (2, "b")]).palette_hash != base
    keypoint = lt.ClassDescription((2, "b"), [(0, "k", (1, 1, 1))])
    assert annotation_context([(1, "a", (1, 2, 3)), keypoint]).palette_hash != base
    # unannotated class 0 is transparent, annotated it is not
    assert annotation_context((0, "sky")).palette_hash != AnnotationContext().palette_hash


def test_contexts_travel_to_every_sink_that_the_recording_opens_once(tmp_path):
    recording = lt.new_recording("app", "run", sink=tmp_path / "first")
    recording.log_annotation_context("camera", [(7, "car", (0, 60, 200))])
    recording.set_time_sequence("frame", 3)
    recording.log_annotation_context("camera/left", [(7, "old")], timeless=False)
    recording.log_annotation_context("camera/left", [(7, "left")], timeless=False)
    recording.save(tmp_path / "second")
    recording.log_segmentation_image("camera/classes", np.full((4, 5), 7, np.uint8))
    recording.log_points("camera/left/points", [[0, 0]], class_ids=[7])
    recording.save(tmp_path / "first")
    recording.save(tmp_path / "second")
    recording.disconnect()
    first, second = (lt.open_store(tmp_path / store).recording("run") for store in ("first", "second"))
    classes = second.latest_at("camera/classes", frame=3)
    assert classes.colors(level=0)[0, 0].tolist() == [0, 60, 200, 255]
    assert second.latest_at("camera/left/points", frame=3).points().display_labels == ["left"]
    assert first.frames_table().num_rows == 3
    assert second.frames_table().num_rows == 4
