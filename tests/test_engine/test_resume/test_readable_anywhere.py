"""What a training writes is read without mmclip."""

import torch


def test_torch_reads_a_training_checkpoint_without_mmclip(train, tmp_path):
    """As mmengine's unmodified loader, and so any inferencer, does."""
    best = dict(save_best='score', rule='greater')
    train(scores=[0.1, 0.3, 0.2], checkpoint=best)
    paths = list((tmp_path / 'work').glob('*.pth'))
    assert any('best' in path.name for path in paths)
    for path in paths:
        assert torch.load(path, weights_only=True)['state_dict']
