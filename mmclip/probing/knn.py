"""Nearest-neighbour classification of frozen features."""

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device

NUM_NEIGHBORS = 20
TEMPERATURE = 0.07
CHUNK = 2**26  # cosines in memory at once


def knn_predictions(
    train_features: np.ndarray, train_labels: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Classify by the 20 most similar training images.

    DINO's rule (arXiv 2104.14294, ``eval_knn.py``): each neighbour votes with
    weight ``exp(cosine / 0.07)``. All pairs are compared, on the GPU if there
    is one.

    Args:
        train_features (np.ndarray): ``(N, C)``.
        train_labels (np.ndarray): ``(N,)``, from 0.
        features (np.ndarray): Features to classify, ``(M, C)``.

    Returns:
        np.ndarray: Labels ``(M,)``.
    """
    device = get_device()
    known = F.normalize(torch.tensor(train_features, device=device))
    votes_for = F.one_hot(torch.tensor(train_labels, device=device)).float()
    number = min(NUM_NEIGHBORS, len(known))
    rows = max(1, CHUNK // len(known))
    found = []
    for start in range(0, len(features), rows):
        chunk = torch.tensor(features[start : start + rows], device=device)
        cosines, nearest = (F.normalize(chunk) @ known.T).topk(number)
        votes = (cosines / TEMPERATURE).exp()[:, None]  # (B, 1, 20)
        found.append((votes @ votes_for[nearest])[:, 0].argmax(dim=1).cpu())
    return torch.cat(found).numpy()
