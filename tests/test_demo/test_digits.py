"""The handwritten digits as a folder tree."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from digits import (
    load_scans,
    shift_distribution,
    split_indices,
    write_digits,
)
from PIL import Image

NUM_SCANS = 1797


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('digits') / 'tree'
    write_digits(root, shots=3, seed=0)
    return root


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*.png'))


def test_training_has_the_shots_of_each_class(tree: Path):
    counts = [len(names(folder)) for folder in (tree / 'train').iterdir()]
    assert counts == [3] * 10


def test_all_scans_are_either_trained_or_tested_on(tree: Path):
    train, val = names(tree / 'train'), names(tree / 'val')
    assert len(set(train) | set(val)) == len(train) + len(val) == NUM_SCANS


def test_the_shifted_split_has_the_same_scans(tree: Path):
    assert names(tree / 'val_shifted') == names(tree / 'val')


def test_folders_are_the_labels_of_scikit_learn(tree: Path):
    from sklearn.datasets import load_digits

    labels = load_digits().target
    for name in names(tree / 'val'):
        digit, file = name.split('/')
        assert labels[int(Path(file).stem)] == int(digit)


def test_written_images_are_the_scans(tree: Path):
    scans, _ = load_scans()
    for name in names(tree / 'train'):
        written = np.asarray(Image.open(tree / 'train' / name))
        assert np.array_equal(written, scans[int(Path(name).stem)])


def test_enlarging_keeps_the_scan():
    from sklearn.datasets import load_digits

    scans, _ = load_scans()
    blocks = scans.reshape(-1, 8, 4, 8, 4).mean((2, 4)) * 16 / 255
    assert np.abs(blocks - load_digits().images).mean() < 1


def test_another_seed_draws_other_images():
    _, labels = load_scans()
    assert set(split_indices(labels, 3, 0)[0]) != set(
        split_indices(labels, 3, 1)[0]
    )


def test_the_shift_inverts_about_half_and_changes_all():
    scans, _ = load_scans()
    shifted = shift_distribution(scans[:200], seed=0)
    inverted = (shifted.mean((1, 2)) > 127).sum()
    assert 60 < inverted < 140
    changes = np.abs(shifted - scans[:200].astype(float)).mean((1, 2))
    assert changes.min() > 10


def test_the_shift_depends_on_the_seed_and_keeps_its_input():
    scans, _ = load_scans()
    before = scans[:5].copy()
    shifted, again, other = (
        shift_distribution(scans[:5], seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(shifted, again)
    assert not np.array_equal(shifted, other)
    assert np.array_equal(scans[:5], before)


@pytest.mark.slow
def test_writing_again_replaces_the_tree(tree: Path, tmp_path: Path):
    """With the same images for the same seed."""
    again = tmp_path / 'again'
    shutil.copytree(tree, again)
    counts = write_digits(again, shots=2, seed=0)
    assert len(names(again / 'train')) == counts['train'] == 20
    assert json.loads((again / 'digits.json').read_text())['shots'] == 2
    assert set(names(again / 'train')) < set(names(tree / 'train'))


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / 'thesis.txt').touch()
    with pytest.raises(FileExistsError, match=str(tmp_path)):
        write_digits(tmp_path, shots=3, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.txt']


@pytest.mark.parametrize('shots', [0, 174])
def test_shots_out_of_range_are_refused(shots: int, tmp_path: Path):
    with pytest.raises(ValueError, match=f'shots.*got {shots}'):
        write_digits(tmp_path, shots=shots, seed=0)
