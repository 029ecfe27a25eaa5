"""Two splits of class folders, and the hook that compares them."""

from types import SimpleNamespace

import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mmclip.engine import CheckClassesHook

NO_METRICS = SimpleNamespace(metrics=[])


@pytest.fixture
def root(tmp_path):
    """Two splits of three classes."""
    for split in ('train', 'val'):
        for name in 'abc':
            picture(tmp_path / split / name / 'x.png')
    return tmp_path


def check_splits(train, val, num_classes=3, hook=None, **model):
    head = SimpleNamespace(num_classes=num_classes)
    (hook or CheckClassesHook()).before_train(
        SimpleNamespace(
            train_dataloader=SimpleNamespace(dataset=train),
            val_dataloader=SimpleNamespace(dataset=val),
            val_loop=True,
            val_evaluator=NO_METRICS,
            model=SimpleNamespace(head=head, **model),
        )
    )


def check_test(dataset, num_classes=3, wrap=lambda model: model, hook=None):
    model = SimpleNamespace(head=SimpleNamespace(num_classes=num_classes))
    (hook or CheckClassesHook()).before_test(
        SimpleNamespace(
            test_dataloader=SimpleNamespace(dataset=dataset),
            test_evaluator=NO_METRICS,
            model=wrap(model),
        )
    )


def trained_on(*classes):
    """A hook that has seen a checkpoint of such classes."""
    hook = CheckClassesHook()
    meta = dict(dataset_meta=dict(classes=classes))
    hook.after_load_checkpoint(None, dict(meta=meta))
    return hook


def splits_of(root, kind=CustomDataset, **settings):
    return (
        kind(str(root), data_prefix=split, **settings)
        for split in ('train', 'val')
    )


def listed(root, *labels, name='list.txt', **settings):
    """A data set of one image for each label, in a list."""
    lines = [f'{"abc"[i % 3]}/x.png {k}\n' for i, k in enumerate(labels)]
    (root / name).write_text(''.join(lines))
    return CustomDataset(
        str(root), data_prefix='train', ann_file=name, **settings
    )


def picture(path, **save):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (4, 4)).save(path, **save)
