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


def test_histories_are_resumed(train):
    hub = train(epochs=3, work_dir='whole').message_hub
    wanted = {
        name: [series.copy() for series in hub.log_scalars[name].data]
        for name in ('train/loss', 'train/lr')
    }
    train(epochs=2)
    resumed = train(epochs=3, resume=True).message_hub
    for name, series in wanted.items():
        assert len(series[0]) == 6
        np.testing.assert_array_equal(resumed.log_scalars[name].data, series)
