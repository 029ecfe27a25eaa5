"""The layers of towers whose blocks lie in stages."""

import pytest
import timm
import torch

from mmclip.models.library_towers.layers import layers_of


@pytest.mark.parametrize(
    ('stages', 'wanted'), [(False, (1, 11, 12, 13)), (True, (1, 4, 4, 5))]
)
def test_swins_final_norm_follows_its_last_block(stages, wanted):
    """timm puts both into one group."""
    with torch.device('meta'):
        tower = timm.create_model('swin_tiny_patch4_window7_224')
    layers, last = layers_of(tower, stages=stages)
    names = (
        'layers.0.blocks.0.norm1.weight',
        'layers.3.blocks.0.norm1.weight',
        'layers.3.blocks.1.mlp.fc2.weight',
        'norm.weight',
    )
    assert tuple(layers[name] for name in names) == wanted
    assert last == wanted[-1]
