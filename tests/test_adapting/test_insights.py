from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmclip.adapting.insights import embedding_map, near_duplicates, suspects
from mmclip.few_shot.cross_validation import out_of_fold
from mmclip.few_shot.linear_probe import LinearProbe
from mmclip.few_shot.method import Encoded


def blobs(per_class=20, num_classes=4, distance=3.0):
    """Classes that hardly overlap."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    centres = distance * torch.randn(num_classes, 8, generator=generator)
    noise = torch.randn(len(labels), 8, generator=generator)
    return Encoded(centres[labels] + noise, labels, num_classes)


def found_in(images):
    """Row and prediction of suspects, by a linear probe."""
    rows, logits = out_of_fold(LinearProbe(), dict(c=10.0), images)
    found = suspects(logits, images.labels[rows])
    return {int(rows[i]): prediction for i, prediction, _ in found}


@pytest.mark.parametrize('distance', [0.9, 1.5])
def test_most_planted_label_errors_are_found_and_little_else(distance):
    images = blobs(per_class=100, distance=distance)
    planted = set(range(5, 400, 25))
    labels = images.labels.clone()
    for row in planted:
        labels[row] = (labels[row] + 1) % 4
    found = found_in(replace(images, labels=labels))
    hits = planted & set(found)
    assert len(hits) >= 0.5 * len(planted)  # recall
    assert len(hits) >= 0.8 * len(found)  # precision
    named = [found[row] == images.labels[row] for row in hits]
    assert sum(named) >= 0.8 * len(named)


@pytest.mark.parametrize('distance', [0.2, 0.5, 0.9, 1.5, 3.0])
def test_correct_labels_are_not_suspicious(distance):
    assert len(found_in(blobs(per_class=100, distance=distance))) <= 2


def test_a_model_that_is_too_weak_names_none():
    images = blobs(per_class=100, distance=0.3)
    labels = images.labels.clone()
    labels[::25] = (labels[::25] + 1) % 4
    assert found_in(replace(images, labels=labels)) == {}


def test_few_images_of_a_class_are_no_evidence():
    images = blobs(per_class=4, distance=3.0)
    labels = images.labels.clone()
    labels[1] = 1
    assert found_in(replace(images, labels=labels)) == {}


@pytest.fixture
def pooled():
    generator = torch.Generator().manual_seed(0)
    features = 5 + torch.randn(60, 32, generator=generator)
    features[40] = features[7] + 0.05 * torch.randn(32, generator=generator)
    features[50:55] = features[20]
    return features


@pytest.mark.parametrize('chunk', [2**24, 60 * 7])
def test_copies_are_paired_across_splits_first(pooled, chunk, monkeypatch):
    monkeypatch.setattr('mmclip.adapting.insights.CHUNK', chunk)
    splits = ['train'] * 30 + ['val'] * 30
    found = near_duplicates(pooled, splits)
    pairs = [(one, other) for one, other, _ in found]
    assert (7, 40) in pairs
    copies = [pair for pair in pairs if pair != (7, 40)]
    assert [other for _, other in sorted(copies, key=lambda p: p[1])] == [
        *range(50, 55)
    ]
    across = [splits[one] != splits[other] for one, other in pairs]
    assert across == sorted(across, reverse=True) and any(across)
    features = F.normalize(pooled - pooled.mean(dim=0), dim=1)
    for one, other, cosine in found:
        expected = features[one] @ features[other]
        assert cosine == pytest.approx(expected.item(), abs=1e-5)


def test_images_that_have_much_in_common_are_no_copies(pooled):
    others = torch.cat([pooled[:40], pooled[41:50]])
    assert F.cosine_similarity(others[:1], others[1:]).min() > 0.9
    assert near_duplicates(others, ['train'] * 49) == []


def test_the_map_shows_the_widest_plane():
    images = blobs(num_classes=2, distance=10.0)
    places = torch.tensor(embedding_map(images.pooled))
    assert places.shape == (40, 2) and places.abs().max() == 1
    x = places[:, 0]
    assert (x[:20].max() < x[20:].min()) or (x[20:].max() < x[:20].min())


@pytest.mark.parametrize('number', [1, 2])
def test_one_image_has_a_place(number):
    assert len(embedding_map(torch.ones(number, 4))) == number
