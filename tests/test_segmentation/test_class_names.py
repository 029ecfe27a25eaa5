"""Classes with several names each."""

import pytest

from mmclip.errors import ArgumentError
from mmclip.segmentation.class_names import parse_classes


def test_names_are_numbered_by_class():
    found = parse_classes(['cat', 'person | man|woman', 'sky'])
    assert found.classes == ['cat', 'person', 'sky']
    assert found.names == ['cat', 'person', 'man', 'woman', 'sky']
    assert found.class_of == [0, 1, 1, 1, 2]
    assert found.background is None


@pytest.mark.parametrize(
    ('background', 'names', 'class_of'),
    [
        ('', ['cat', 'dog'], [1, 2]),
        ('wall|floor', ['wall', 'floor', 'cat', 'dog'], [0, 0, 1, 2]),
    ],
)
def test_background_comes_first(background, names, class_of):
    found = parse_classes(['cat', 'dog'], background)
    assert found.classes == ['background', 'cat', 'dog']
    assert (found.names, found.class_of) == (names, class_of)
    assert found.background == 0


def test_background_is_a_class_and_needs_another_name():
    for lines, background in ((['cat'], ''), (['background', 'cat'], 'wall')):
        with pytest.raises(ArgumentError):
            parse_classes(lines, background)


@pytest.mark.parametrize(
    ('lines', 'said'),
    [
        (['cat'], 'two names are needed .* got cat'),
        (['crane|bird', 'crane|machine'], "'crane' is the name of 2 classes"),
        (['cat|dog', 'dog pup|cat'], "'cat' is the name of 2 classes"),
        ([], 'got none'),
        (['cat', 'dog|'], "'dog|' has an empty name"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(lines, said):
    with pytest.raises(ArgumentError, match=said.replace('|', r'\|')):
        parse_classes(lines)
