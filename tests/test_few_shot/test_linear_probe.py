import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mmclip.few_shot.linear_probe import LinearProbe, TextProbe
from tests.test_few_shot import formulas
from tests.test_few_shot.conftest import make_images


@pytest.mark.parametrize('c', [0.1, 10.0])
def test_probabilities_are_those_of_scikit_learn(train, new, c):
    found = LinearProbe().fit(train, c=c).logits(new).softmax(dim=1).numpy()
    x = train.pooled.double().numpy()
    size = np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())

    def expected(c):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=10_000)
        model.fit(x / size, train.labels.numpy())
        return model.predict_proba(new.double().numpy() / size)

    np.testing.assert_allclose(found, expected(c), atol=2e-3)
    assert np.abs(found - expected(1.5 * c)).max() > 1e-2


def text_probe_gradient(train, head, c, pull):
    """Of ``C * sum of cross entropies + |w - t|^2 / 2``, by w and b."""
    a = formulas.Arrays(train)
    w = head.fc.weight.detach().double().numpy() / a.scale
    b = head.fc.bias.detach().double().numpy()
    logits = a.scale * a.f @ w.T + b
    wrong = c * (formulas.softmax(logits) - a.one_hot)
    by_w = a.scale * wrong.T @ a.f + pull * (w - a.t)
    return np.abs(by_w).max(), np.abs(wrong.sum(axis=0)).max()


@pytest.mark.parametrize('c', [0.01, 1.0])
def test_the_text_probe_is_at_the_minimum_of_its_loss(train, c):
    head = TextProbe().fit(train, c=c).head
    by_w, by_b = text_probe_gradient(train, head, c, pull=1)
    assert by_w < 0.02 and by_b < 0.02
    by_w, _ = text_probe_gradient(train, head, c, pull=0)
    assert by_w > 0.05


def test_with_a_small_c_the_text_probe_is_zero_shot(train, new):
    found = TextProbe().fit(train, c=1e-9).logits(new)
    expected = formulas.zero_shot(train, new)
    moved = found.numpy() - expected
    # Only the biases, which are not pulled, may move.
    np.testing.assert_allclose(moved - moved[0], 0, atol=1e-4)


@pytest.mark.parametrize('method', [LinearProbe(), TextProbe()])
def test_a_large_problem_ends_early_and_says_so(method, train, monkeypatch):
    assert not method.fit(train, c=1000.0).note
    monkeypatch.setattr('mmclip.few_shot.linear_probe.LARGE', 0)
    monkeypatch.setattr('mmclip.few_shot.linear_probe.ROUGH_ITERATIONS', 1)
    assert 'stopped' in method.fit(train, c=1000.0).note


def test_features_of_another_length_make_no_difference():
    train = make_images()
    longer = make_images()
    longer.pooled.mul_(100)
    one = LinearProbe().fit(train, c=1.0).logits(train.pooled)
    other = LinearProbe().fit(longer, c=1.0).logits(longer.pooled)
    np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-3)
