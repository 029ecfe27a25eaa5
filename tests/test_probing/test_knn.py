"""Nearest neighbours: DINO's rule."""

import numpy as np

from mmclip.probing import knn_predictions


def test_neighbours_vote_as_in_dino():
    """Against the rule written out, over all pairs."""
    random = np.random.default_rng(0)
    train = random.normal(size=(200, 8)).astype(np.float32)
    labels = random.integers(0, 5, 200)
    test = random.normal(size=(50, 8)).astype(np.float32)
    units = [
        x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test)
    ]
    cosines = units[1] @ units[0].T
    wanted, by_number = [], []
    for row in cosines:
        nearest = np.argsort(-row)[:20]
        votes, numbers = np.zeros(5), np.zeros(5)
        np.add.at(votes, labels[nearest], np.exp(row[nearest] / 0.07))
        np.add.at(numbers, labels[nearest], 1)
        wanted.append(votes.argmax())
        by_number.append(numbers.argmax())
    ours = knn_predictions(train, labels, test)
    assert ours.tolist() == wanted
    assert ours.tolist() != by_number


def test_fewer_than_twenty_images_are_all_neighbours():
    train = np.eye(3, dtype=np.float32)
    predictions = knn_predictions(train, np.arange(3), train[[2, 0]] * 5)
    assert predictions.tolist() == [2, 0]
