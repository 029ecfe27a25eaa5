"""mmpretrain's data sets are looked at before they are built."""

import pytest
from mmengine.config import Config

from mmclip.engine.checks.places import check_places
from mmclip.errors import CheckpointError
from tests.test_engine.splits import picture

WRAPPERS = {
    'plain': lambda dataset: dataset,
    'repeated': lambda dataset: dict(
        type='RepeatDataset', times=2, dataset=dataset
    ),
    'joined': lambda dataset: dict(
        type='ConcatDataset', datasets=[dataset, dataset]
    ),
}


def config(root, wrap='plain', **dataset):
    dataset = dict(type='CustomDataset', data_root=str(root)) | dataset
    loader = dict(dataset=WRAPPERS[wrap](dataset))
    return Config(dict(default_scope='mmpretrain', val_dataloader=loader))


@pytest.mark.parametrize('wrap', WRAPPERS)
@pytest.mark.parametrize('kind', ['CustomDataset', 'mmclip.ImageFolder'])
def test_a_missing_folder_is_explained(root, wrap, kind):
    check_places(config(root, wrap, type=kind, data_prefix='val'))
    with pytest.raises(FileNotFoundError, match=r'valid \(.* has train, val'):
        check_places(config(root, wrap, type=kind, data_prefix='valid'))


@pytest.mark.parametrize('kind', ['CustomDataset', 'mmpretrain.CustomDataset'])
def test_a_line_that_mmpretrain_does_not_take_is_named(root, kind):
    settings = dict(type=kind, ann_file='list.txt')
    (root / 'list.txt').write_text('a/x.png 0\n')
    check_places(config(root, **settings))
    for line in ('a/x.png,0', 'a/x.png\t0', 'a/x.png'):
        (root / 'list.txt').write_text(f'a/x.png 0\n{line}\n')
        with pytest.raises(ValueError, match=r'Line 2 of .*list\.txt'):
            check_places(config(root, **settings))
        check_places(config(root, **settings, with_label=False))


def test_a_missing_list_is_explained(root):
    with pytest.raises(FileNotFoundError, match=r'list of images .*no\.txt'):
        check_places(config(root, ann_file='no.txt'))


def test_a_split_that_is_not_used_is_not_looked_at(root):
    cfg = config(root, data_prefix='valid')
    check_places(cfg, ('train_dataloader', 'test_dataloader'))


def test_other_data_sets_are_left_alone(root):
    check_places(config(root, type='CIFAR10', data_prefix='nowhere'))
    check_places(config(root, type='mmclip.ImageNetV2'))
    picture(root / 'ImageNet' / 'val' / 'a' / 'x.png')
    settings = dict(type='ImageNet', data_root=str(root / 'ImageNet'))
    check_places(config(root, **settings, split='val'))
    with pytest.raises(FileNotFoundError, match='has val'):
        check_places(config(root, **settings, split='train'))


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('load_from', 'no.pth', r'no\.pth does not exist'),
        ('load_from', '.', r'\. is a folder'),
        ('load_from', 'cut.pth', r'cut\.pth is not a readable'),
        ('work_dir', 'list.txt/x', r'list\.txt/x cannot be written to'),
    ],
)
def test_files_are_looked_at_too(root, monkeypatch, key, value, message):
    monkeypatch.chdir(root)
    (root / 'list.txt').touch()
    (root / 'cut.pth').write_bytes(b'PK\x03\x04')
    with pytest.raises((OSError, CheckpointError), match=message):
        check_places(Config({key: value}))
    check_places(Config(dict(load_from='https://host/x.pth', work_dir='w')))
