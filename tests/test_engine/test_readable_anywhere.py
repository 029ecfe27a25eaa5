"""What a training writes is read without mmclip, and resumed with it."""

import numpy as np
import torch


def test_torch_reads_a_training_checkpoint_without_mmclip(train, tmp_path):
    """As mmengine's unmodified loader, and so any inferencer, does."""
    best = dict(save_best='score', rule='greater')
    train(scores=[0.1, 0.3, 0.2], checkpoint=best)
    paths = list((tmp_path / 'work').glob('*.pth'))
    assert any('best' in path.name for path in paths)
    for path in paths:
        assert torch.load(path, weights_only=True)['state_dict']


def test_histories_are_resumed(train, tmp_path):
    scores = [0.1, 0.3, 0.2]
    whole = train(epochs=3, scores=scores, work_dir='whole').message_hub
    train(epochs=2, scores=scores)
    resumed = train(epochs=3, scores=scores, resume=True).message_hub
    assert 'val/score' in whole.log_scalars
    for name, history in whole.log_scalars.items():
        if name.rpartition('/')[2] not in ('time', 'data_time'):
            again = resumed.log_scalars[name]
            assert again.max_length == history.max_length
            for ours, theirs in zip(again.data, history.data, strict=True):
                np.testing.assert_array_equal(ours, theirs)
