"""Classifiers come from strangers: what their files may not choose."""

import copy

import pytest
import torch
from mmpretrain.models.heads import ClsHead

import mmclip
from mmclip.adapting.run_files.model_file import HEADS, build_model, read_model
from mmclip.checkpoint.describe import describe_model
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.checkpoint.meta import read_clip
from mmclip.errors import CheckpointError
from mmclip.registry import MODELS
from tests.test_predicting.conftest import CLASSES, checkpoint

HUGE = 2**22
WRONG = [None, True, -1, 0, 2**70, float('nan'), 'x', [], {}, [{}], b'x']


def refusal(content, folder) -> str:
    """What is said of a file with this content."""
    write_checkpoint(content, folder / 'other.pth')
    with pytest.raises(CheckpointError) as caught:
        read_model(folder / 'other.pth')
    return str(caught.value)


def described(**parts):
    """A checkpoint, with other values in parts of its description."""
    content = checkpoint()
    clip = content['meta']['clip']
    for name, values in parts.items():
        is_part = isinstance(values, dict) and isinstance(clip.get(name), dict)
        clip[name] = clip[name] | values if is_part else values
    return content


@pytest.mark.parametrize(
    ('parts', 'said'),
    [
        (dict(head=None), 'lacks head'),
        (dict(preprocess=None), 'lacks preprocess'),
        (dict(head=dict(num_classes=HUGE)), f'its head has {HUGE}'),
        (dict(head=dict(in_channels=2**16)), 'head.fc.weight'),
        (dict(head=dict(type='mmpretrain.ClsHead')), "a 'ClsHead'"),
        (dict(head=dict(type='')), "a ''"),
        (
            dict(head=dict(type='mmclip.TipAdapterClsHead')),
            'num_images, alpha',
        ),
        (dict(answers=dict(thresholds=[0.5])), '1 thresholds for 6 classes'),
        (dict(answers=dict(thresholds=[2] * 6)), 'thresholds must be a list'),
        (dict(classes=['a', 'b']), 'names 2 classes, but its head has 6'),
        (
            dict(img_size=2**14, backbone=dict(img_size=2**14)),
            'resized to 16384 pixels',
        ),
        (dict(img_size=512, backbone=dict(img_size=512)), 'pos_embed'),
        (dict(backbone=dict(out_type='featmap')), 'does not fit'),
        (dict(backbone=dict(init_cfg=dict(type='Pretrained'))), None),
        (dict(preprocess=dict(channels='BGR')), 'BGR'),
        (dict(preprocess=dict(interpolation='x')), 'interpolation'),
        (dict(preprocess=dict(resize_mode='longest')), 'resize_mode'),
    ],
)
def test_what_does_not_fit_the_tensors_is_refused(tmp_path, parts, said):
    content = described(**parts)
    if said is not None:
        assert said in refusal(content, tmp_path)
    else:  # no address of a file is taken
        write_checkpoint(content, tmp_path / 'other.pth')
        assert read_model(tmp_path / 'other.pth')


def test_nothing_is_allocated_for_a_head_that_the_file_lacks(
    tmp_path, monkeypatch
):
    head = dict(type='mmclip.NearestNeighboursClsHead')
    head |= dict(num_images=2**24, k=1, in_channels=2**16)
    content = described(head=head)
    built = []
    init = ClsHead.__init__

    def note(self, *args, **kwargs):
        init(self, *args, **kwargs)
        built.append(torch.empty(1).device.type)

    monkeypatch.setattr(ClsHead, '__init__', note)
    assert 'head.keys' in refusal(content, tmp_path)
    assert built == ['meta']


def with_neighbours(**changes):
    content = checkpoint()
    head = dict(
        type='mmclip.NearestNeighboursClsHead',
        num_classes=len(CLASSES),
        in_channels=16,
        num_images=8,
        k=3,
    )
    content['meta']['clip']['head'] = head | changes
    weights = content['state_dict']
    for key in ('head.fc.weight', 'head.fc.bias'):
        del weights[key]
    weights['head.keys'] = torch.randn(8, 16)
    weights['head.labels'] = torch.arange(8) % len(CLASSES)
    return content


def test_a_head_of_training_images_is_read(tmp_path, photos):
    write_checkpoint(with_neighbours(), tmp_path / 'model.safetensors')
    model = mmclip.load(tmp_path / 'model.safetensors', device='cpu')
    assert model.predict_folder(photos)[0].name in CLASSES
    again = describe_model(model.model, None, CLASSES)
    assert again['head'] == with_neighbours()['meta']['clip']['head']


@pytest.mark.parametrize(('label', 'k'), [(6, 3), (-1, 3), (0, 9)])
def test_labels_and_neighbours_are_those_of_the_head(tmp_path, label, k):
    content = with_neighbours(k=k)
    content['state_dict']['head.labels'][3] = label
    said = refusal(content, tmp_path)
    assert ('does not fit' if k == 9 else 'labels from') in said


def test_weights_that_are_not_finite_are_refused(tmp_path):
    content = checkpoint()
    content['state_dict']['head.fc.bias'][0] = float('nan')
    assert 'NaN' in refusal(content, tmp_path)


def test_half_precision_becomes_single(tmp_path, model, photos):
    content = checkpoint()
    weights = content['state_dict']
    content['state_dict'] = {k: v.half() for k, v in weights.items()}
    write_checkpoint(content, tmp_path / 'half.safetensors')
    found = mmclip.load(tmp_path / 'half.safetensors', device='cpu')
    image = photos / 'a' / '0.png'
    expected = model.predict(image).probabilities
    assert found.predict(image).probabilities == pytest.approx(
        expected, abs=0.01
    )


def test_a_tower_alone_is_told_what_it_lacks(tmp_path):
    content = dict(state_dict=checkpoint()['state_dict'])
    assert 'does not describe itself' in refusal(content, tmp_path)


def test_a_head_is_found_by_its_whole_name():
    assert all(MODELS.get(name) for name in HEADS if name.startswith('mmclip'))


@pytest.mark.parametrize('value', WRONG, ids=repr)
def test_no_value_of_a_description_ends_in_another_error(trained, value):
    clip = trained['meta']['clip']
    for part, *key in places(clip):
        changed = copy.deepcopy(clip)
        holder = changed[part] if key else changed
        holder[key[0] if key else part] = value
        try:
            taken = read_clip(dict(meta=dict(clip=changed)), 'the file')
            build_model(trained['state_dict'], taken or {}, 'the file')
        except CheckpointError as error:
            assert 'the file' in str(error), (part, key)


def places(clip):
    """The names of all parts, and of all values in parts."""
    for part, values in clip.items():
        yield (part,)
        if isinstance(values, dict):
            yield from ((part, key) for key in values)


@pytest.fixture(scope='module')
def trained():
    return checkpoint()
