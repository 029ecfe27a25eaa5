"""Glyphs with captions."""

import importlib
import random
import sys

import pytest
import torch
from digits import DIGIT_NAMES
from glyphs import (
    CHARACTERS,
    distort,
    font_files,
    make_caption,
    make_glyph_pairs,
    render_fields,
)
from torch import Tensor


@pytest.fixture(scope='module')
def pairs() -> tuple[Tensor, list[str]]:
    return make_glyph_pairs(400, seed=0)


@pytest.fixture(scope='module')
def fields() -> tuple[Tensor, list[str]]:
    return render_fields()


def test_pairs_are_small_grey_images_with_captions(pairs):
    images, captions = pairs
    assert images.shape == (400, 32, 32)
    assert images.dtype == torch.uint8
    assert len(captions) == 400


def test_a_seed_makes_its_own_pairs():
    images, captions = make_glyph_pairs(40, seed=0)
    again, same = make_glyph_pairs(40, seed=0)
    assert torch.equal(again, images) and same == captions
    others, different = make_glyph_pairs(40, seed=1)
    assert not torch.equal(others, images) and different != captions


def test_images_are_not_blank(pairs):
    assert pairs[0].float().std(dim=(1, 2)).min() > 1


def test_every_digit_has_captions(pairs):
    words = {word for caption in pairs[1] for word in caption.split()}
    assert set(DIGIT_NAMES) <= words


def test_a_caption_names_its_character():
    rng = random.Random(0)
    for character in CHARACTERS:
        names = {character.lower()}
        if character.isdigit():
            names.add(DIGIT_NAMES[int(character)])
        for _ in range(20):
            assert make_caption(character, rng).split()[-1] in names


def test_a_caption_tells_capital_from_small_letters():
    rng = random.Random(0)
    assert 'capital letter q' in make_caption('Q', rng)
    assert 'small letter q' in make_caption('q', rng)


def test_captions_fit_the_context_of_the_demo(pairs):
    import open_clip

    tokens = open_clip.SimpleTokenizer()(sorted(set(pairs[1])))
    assert (tokens != 0).sum(dim=1).max() <= 12


def test_every_font_draws_every_character_differently(fields):
    shapes, characters = fields
    per_font = len(CHARACTERS)
    first_font = shapes[:per_font] > 0
    assert characters[:per_font] == list(CHARACTERS)
    assert len({shape.numpy().tobytes() for shape in first_font}) == per_font


def test_a_field_is_positive_inside_only(fields):
    shapes, characters = fields
    zero = shapes[characters.index('0')]  # DejaVu Sans: an empty oval
    assert zero[32, 32] < 0
    assert zero[32].max() > 0
    assert zero[0].max() < 0


def test_fours_and_sevens_also_have_the_forms_of_hands(fields):
    counts = {digit: fields[1].count(digit) for digit in '0478'}
    assert counts['0'] == counts['8'] == len(font_files())
    assert counts['4'] == counts['7'] > counts['0']


def test_distorting_one_glyph_gives_different_images(fields):
    generator = torch.Generator().manual_seed(0)
    images = distort(fields[0][:1].expand(8, -1, -1), generator)
    assert images.shape == (8, 1, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    distances = torch.cdist(images.flatten(1), images.flatten(1))
    assert distances[~torch.eye(8, dtype=bool)].min() > 1


def test_glyphs_come_without_scikit_learn(monkeypatch):
    for name in 'glyphs', 'digits':
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, 'sklearn', None)  # an ImportError
    assert importlib.import_module('glyphs').make_glyph_pairs(4, seed=0)
