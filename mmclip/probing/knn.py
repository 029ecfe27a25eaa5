"""Nearest neighbours on frozen features."""

import numpy as np

from mmclip.probing.logistic import import_sklearn

NUM_NEIGHBORS = 20
TEMPERATURE = 0.07


def knn_predictions(
    train_features: np.ndarray, train_labels: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Classify by the 20 most similar training images.

    DINO's rule (arXiv 2104.14294, ``eval_knn.py``): a neighbour votes with
    ``exp(cosine / 0.07)``. Found by scikit-learn's ``KNeighborsClassifier``,
    over all pairs.

    Args:
        train_features (np.ndarray): ``(N, C)``.
        train_labels (np.ndarray): ``(N,)``.
        features (np.ndarray): To classify, ``(M, C)``.

    Returns:
        np.ndarray: Labels ``(M,)``.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    knn = import_sklearn().neighbors.KNeighborsClassifier(
        n_neighbors=min(NUM_NEIGHBORS, len(train_features)),
        weights=_votes,
        algorithm='brute',
    )
    knn.fit(_normalize(train_features), train_labels)
    return knn.predict(_normalize(features))


def _votes(distances: np.ndarray) -> np.ndarray:
    # Between vectors of length one: distance ** 2 = 2 - 2 cosine.
    return np.exp((1 - distances**2 / 2) / TEMPERATURE)


def _normalize(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
