import numpy as np
import pytest
import torch

from mmclip.few_shot.lp_plus_plus import LPPlusPlus
from mmclip.few_shot.method import Classifier
from mmclip.few_shot.nearest_neighbours import NearestNeighbours
from mmclip.few_shot.prolip import ProLIP
from mmclip.few_shot.tip_adapter import TipAdapter, TipAdapterF
from mmclip.few_shot.zero_shot import ZeroShot
from tests.test_few_shot import formulas

ATOL = 2e-4  # of logits of about 20, after 300 steps in float32


def assert_logits(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=ATOL)


def assert_others(found, expected):
    assert np.abs(found.numpy() - expected).max() > 5 * ATOL


def test_zero_shot(train, new):
    found = ZeroShot().fit(train).logits(new)
    assert_logits(found, formulas.zero_shot(train, new))


@pytest.mark.parametrize('k', [1, 4, 99])
def test_nearest_neighbours(train, new, k):
    found = NearestNeighbours().fit(train, k=k).logits(new).exp()
    np.testing.assert_allclose(
        found.numpy(), formulas.neighbours(train, new, k), atol=1e-5
    )
    if k > 1:
        others = formulas.neighbours(train, new, k, temperature=0.1)
        assert_others(found, others)


def tip_adapter_alpha(train, strength):
    return strength * 20 / 5  # of logit scale 20 and 5 images per class


def test_tip_adapter(train, new):
    found = TipAdapter().fit(train, strength=0.3, beta=2.5).logits(new)
    alpha = tip_adapter_alpha(train, 0.3)
    assert_logits(found, formulas.tip_adapter(train, new, alpha, 2.5))
    assert_others(found, formulas.tip_adapter(train, new, alpha, 2.6))
    assert_others(found, formulas.tip_adapter(train, new, 1.01 * alpha, 2.5))


def test_tip_adapter_f(train, new):
    found = TipAdapterF().fit(train, strength=1.0, beta=2.5).logits(new)
    alpha = tip_adapter_alpha(train, 1.0)

    def expected(decay):
        keys = formulas.tip_adapter_f(train, alpha, 2.5, decay)
        return formulas.tip_adapter(train, new, alpha, 2.5, keys)

    assert_logits(found, expected(0.01))
    assert_others(found, expected(0.1))
    assert_others(found, formulas.tip_adapter(train, new, alpha, 2.5))


@pytest.mark.parametrize('steps', [0, 10, 100])
def test_lp_plus_plus(train, new, steps):
    found = LPPlusPlus().fit(train, steps=steps).logits(new)
    assert_logits(found, formulas.lp_plus_plus(train, new, steps))
    if steps > 10:
        zeroed = formulas.lp_plus_plus(train, new, steps, sum_gradients=False)
        assert_others(found, zeroed)


def test_prolip(train, new):
    found = ProLIP().fit(train).logits(new)
    assert_logits(found, formulas.prolip(train, new, 1.0))
    assert_others(found, formulas.prolip(train, new, 0.5))
    assert_others(found, formulas.prolip(train, new, 1.0, eps=1e-8))


@torch.no_grad()
def test_many_images_are_classified_in_parts(train, new, monkeypatch):
    classifier = ZeroShot().fit(train)
    expected = classifier.logits(new)
    seen = []
    forward = classifier.head.forward
    monkeypatch.setattr(
        classifier.head,
        'forward',
        lambda f: seen.append(len(f[0])) or forward(f),
    )
    monkeypatch.setattr('mmclip.few_shot.method.CHUNK', 4 * 3)
    found = Classifier(classifier.head, classifier.projection).logits(new)
    torch.testing.assert_close(found, expected)
    assert max(seen) == 4
