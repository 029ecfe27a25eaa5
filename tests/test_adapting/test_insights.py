from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmclip.adapting.insights import embedding_map, near_duplicates, suspects
from mmclip.few_shot.method import Encoded


def blobs(per_class=20, num_classes=4, distance=3.0):
    """Classes that hardly overlap."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    centres = distance * torch.randn(num_classes, 8, generator=generator)
    noise = torch.randn(len(labels), 8, generator=generator)
    return Encoded(centres[labels] + noise, labels, num_classes)


def test_most_planted_label_errors_are_found_and_little_else():
    images = blobs(per_class=40)
    planted = set(range(5, 160, 16))
    labels = images.labels.clone()
    for row in planted:
        labels[row] = (labels[row] + 1) % 4
    found = {
        row: prediction
        for row, prediction, _ in suspects(replace(images, labels=labels))
    }
    assert len(planted & set(found)) >= 0.7 * len(planted)
    assert len(set(found) - planted) <= 1
    for row in planted & set(found):
        assert found[row] == images.labels[row]
    assert len(suspects(images)) <= 1


def test_few_images_of_a_class_are_no_evidence():
    images = blobs(per_class=4, distance=0.1)
    assert suspects(images) == []


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
