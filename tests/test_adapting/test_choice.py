import math

import pytest
import torch

from mmclip.adapting.choice import compare, holm, interval


@pytest.mark.parametrize(
    'right, number, low, high',
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0.00, 16.11),
        (1, 29, 0.61, 17.18),
        (29, 29, 88.30, 100.00),
        (0, 0, 0.00, 100.00),
    ],
)
def test_the_interval_is_the_published_one(right, number, low, high):
    assert interval(right, number) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize('number', range(1, 60))
def test_the_interval_is_within_0_and_100(number):
    assert str(interval(0, number)[0]) == '0.0'
    assert interval(number, number)[1] <= 100


def answers(*counts):
    """Of two classifiers: images that only the first, only the second has."""
    first, second = counts
    return (
        torch.tensor([True] * first + [False] * second + [True] * 3),
        torch.tensor([False] * first + [True] * second + [True] * 3),
    )


@pytest.mark.parametrize('number', [5, 6, 12, 20, 41])
def test_it_is_the_exact_test(number):
    for fewer in range(number // 2 + 1):
        chance = sum(math.comb(number, k) for k in range(fewer + 1))
        expected = pytest.approx(min(1, 2 * chance / 2**number))
        assert compare(*answers(fewer, number - fewer)) == expected
        assert compare(*answers(number - fewer, fewer)) == expected


def test_equal_answers_do_not_differ():
    assert compare(*answers(0, 0)) == 1


@pytest.mark.parametrize(
    'first, expected', [(50_000, False), (49_690, False), (49_689, True)]
)
def test_a_hundred_thousand_images(first, expected):
    # 1.96 standard deviations are 310; the exact test takes half an image.
    assert (compare(*answers(first, 100_000 - first)) < 0.05) == expected


@pytest.mark.parametrize(
    'p_values, expected',
    [
        # R's p.adjust(c(0.01, 0.04, 0.03, 0.005), 'holm') gives
        # 0.03, 0.06, 0.06, 0.02.
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),
        ([0.04], [True]),
        ([0.04, 0.04], [False, False]),
        ([0.02, 0.04], [True, True]),
        ([0.03, 0.001, 0.012], [True, True, True]),
        ([], []),
    ],
)
def test_several_tests_are_corrected(p_values, expected):
    assert holm(p_values) == expected
