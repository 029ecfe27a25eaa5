"""scikit-learn's handwritten digits as an ImageNet-style folder tree."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32  # pixels; the scans are 32 x 32 bitmaps reduced to 8 x 8
SUMMARY = 'digits.json'
DIGIT_NAMES = (
    'zero',
    'one',
    'two',
    'three',
    'four',
    'five',
    'six',
    'seven',
    'eight',
    'nine',
)


def write_digits(root: str | Path, shots: int, seed: int) -> dict[str, int]:
    """Write the scans as PNG files: a few for training, the rest for testing.

    The tree is ``root/{train,val,val_shifted}/{0..9}/*.png``. ``val_shifted``
    holds the scans of ``val`` after :func:`shift_distribution`. A tree that
    this function wrote before is replaced.

    The scans are scikit-learn's ``load_digits``: 1,797 digits by 13 people,
    https://doi.org/10.24432/C50P49.

    Args:
        root (str | Path): The folder to write.
        shots (int): Images per class in ``train``.
        seed (int): Seed of the split and of the shift.

    Returns:
        dict[str, int]: Number of images in each split.

    Raises:
        FileExistsError: If ``root`` has other contents.
        ValueError: If ``shots`` leaves a class without test images.
    """
    root = Path(root)
    scans, labels = load_scans()
    train, val = split_indices(labels, shots, seed)
    shifted = shift_distribution(scans[val], seed)
    _clear(root)
    _write_split(root / 'train', scans[train], labels[train], train)
    _write_split(root / 'val', scans[val], labels[val], val)
    _write_split(root / 'val_shifted', shifted, labels[val], val)
    counts = dict(train=len(train), val=len(val), val_shifted=len(val))
    summary = dict(shots=shots, seed=seed, images=counts)
    (root / SUMMARY).write_text(json.dumps(summary, indent=2) + '\n')
    return counts


def load_scans() -> tuple[np.ndarray, np.ndarray]:
    """Load the scans, light strokes on black, and their digits.

    Returns:
        tuple[np.ndarray, np.ndarray]: Images ``(1797, 32, 32)`` uint8 and
        labels ``(1797,)``.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    scans = np.stack([_enlarge(scan) for scan in digits.images])
    return scans, digits.target


def split_indices(
    labels: np.ndarray, shots: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``shots`` training images per class, and test on the rest.

    Args:
        labels (np.ndarray): Class of each image ``(N,)``.
        shots (int): Training images per class.
        seed (int): Seed of the draw.

    Returns:
        tuple[np.ndarray, np.ndarray]: Sorted indices for training
        ``(classes * shots,)`` and for testing (all others).
    """
    smallest = np.bincount(labels).min()
    if not 0 < shots < smallest:
        raise ValueError(
            f'shots must be 1 to {smallest - 1}, so that every class has '
            f'training and test images; got {shots}.'
        )
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = [order[labels[order] == k][:shots] for k in np.unique(labels)]
    train = np.sort(np.concatenate(drawn))
    return train, np.setdiff1d(order, train)


def shift_distribution(images: np.ndarray, seed: int) -> np.ndarray:
    """Add what the training images do not show: inversion, noise and shifts.

    About half of the images, at random, become dark on light. All are moved
    by up to 3 pixels each way, keep 50 % to 90 % of their contrast, and get
    Gaussian noise with standard deviation 0.12.

    Args:
        images (np.ndarray): ``(N, H, W)`` uint8.
        seed (int): Seed of all random choices.

    Returns:
        np.ndarray: ``(N, H, W)`` uint8.
    """
    rng = np.random.default_rng(seed)
    shifted = [_move(image, rng.integers(-3, 4, 2)) for image in images]
    x = np.stack(shifted) / 255
    one_each = (len(x), 1, 1)
    x = np.where(rng.random(one_each) < 0.5, 1 - x, x)
    x = 0.5 + (x - 0.5) * rng.uniform(0.5, 0.9, one_each)
    x = x + 0.12 * rng.standard_normal(x.shape)
    return (255 * x.clip(0, 1)).round().astype(np.uint8)


def _enlarge(scan: np.ndarray) -> np.ndarray:
    """Enlarge a scan (8, 8) with values 0 to 16 to grey levels (32, 32)."""
    grey = Image.fromarray((scan * 255 / 16).round().astype(np.uint8))
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _move(image: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Move an image by (rows, columns), filling with black."""
    rows, columns = offset
    padded = np.pad(image, 3)
    height, width = image.shape
    return padded[3 - rows :, 3 - columns :][:height, :width]


def _clear(root: Path) -> None:
    """Remove a tree that ``write_digits`` wrote, but nothing else."""
    if not root.exists() or not any(root.iterdir()):
        return
    if not (root / SUMMARY).is_file():
        raise FileExistsError(
            f'{root} is not empty and has no {SUMMARY}, so it is not a tree '
            'of digits to replace: choose another folder.'
        )
    shutil.rmtree(root)


def _write_split(
    folder: Path, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
) -> None:
    """Write images (N, H, W), named by their index in scikit-learn's set."""
    for image, label, index in zip(images, labels, indices, strict=True):
        path = folder / str(label) / f'{index:04d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
