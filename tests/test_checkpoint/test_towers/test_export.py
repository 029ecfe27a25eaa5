"""What is exported, and how it is written."""

from dataclasses import replace

import pytest
import torch

from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.towers.export import export_checkpoint, write_export
from tests.test_checkpoint.conftest import (
    CLIP_BACKBONE,
    SIGLIP_BACKBONE,
    make_checkpoint,
)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    preprocess = dict(
        mean=[0.5] * 3,
        std=[0.5] * 3,
        interpolation='bicubic',
        resize_mode='shortest',
    )
    old, _ = make_checkpoint(CLIP_BACKBONE, preprocess=preprocess, img_size=32)
    write_export(export_checkpoint(old, 'hf'), tmp_path / 'out')
    before = contents(tmp_path / 'out')
    assert len(before) == 3
    new = export_checkpoint(make_checkpoint(SIGLIP_BACKBONE, a=1)[0], 'hf')
    broken = replace(new, state_dict=dict(a=None))
    with pytest.raises(AttributeError):
        write_export(broken, tmp_path / 'out')
    assert contents(tmp_path / 'out') == before
    write_export(new, tmp_path / 'out')
    # Without the other checkpoint's preprocessing.
    assert set(contents(tmp_path / 'out')) == {
        'config.json',
        'model.safetensors',
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_weights_of_other_projects_are_refused(tiny_model):
    with pytest.raises(CheckpointError, match='mmclip convert NAME'):
        export_checkpoint(tiny_model.model.state_dict(), 'timm')


def test_files_that_do_not_describe_themselves_are_sent_to_be_converted():
    checkpoint, _ = make_checkpoint(CLIP_BACKBONE)
    with pytest.raises(
        CheckpointError, match='Convert it first: mmclip convert'
    ):
        export_checkpoint(checkpoint, 'timm')


WIDER = CLIP_BACKBONE['arch'] | dict(mlp_width=64)


@pytest.mark.parametrize(
    ('backbone', 'weights', 'message'),
    [
        (dict(type='ResNet', depth=50), {}, r"type must be one of .*'ResNet"),
        (CLIP_BACKBONE | dict(arch=WIDER), {}, r'shape: layers\.0\.ffn'),
        (
            CLIP_BACKBONE,
            {'neck.weight': torch.zeros(1)},
            r'has neck\.weight',
        ),
    ],
)
def test_what_does_not_fit_is_not_exported(backbone, weights, message):
    checkpoint, _ = make_checkpoint(CLIP_BACKBONE, a=1)
    checkpoint['meta']['clip']['backbone'] = backbone
    checkpoint['state_dict'] |= weights
    with pytest.raises(CheckpointError, match=message):
        export_checkpoint(checkpoint, 'timm')
