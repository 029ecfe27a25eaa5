"""What a training writes is read without mmclip, and resumed with it."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from mmclip.engine.plain_values import read_plainly, write_plainly


def test_torch_reads_a_training_checkpoint_without_mmclip(train, tmp_path):
    """As mmengine's unmodified loader, and so any inferencer, does."""
    best = dict(save_best='score', rule='greater')
    train(scores=[0.1, 0.3, 0.2], checkpoint=best)
    paths = list((tmp_path / 'work').glob('*.pth'))
    assert any('best' in path.name for path in paths)
    with torch.serialization.safe_globals([]):
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


def test_what_packages_write_becomes_plain(tmp_path):
    """Such as mmpose's colours and a config's nested metainfo."""
    colours = np.array([[1, 2, 255]], dtype=np.uint8)
    written = dict(
        meta=dict(
            dataset_meta=ConfigDict(
                classes=('a', 'b'), colours=colours, nested=dict(of=[1])
            )
        ),
        message_hub=dict(
            runtime_info={np.int64(1): np.float64(0.5), 'on': np.bool_(True)}
        ),
    )
    write_plainly(written)
    torch.save(written, tmp_path / 'x.pth')
    read = torch.load(tmp_path / 'x.pth', weights_only=True)
    assert read == dict(
        meta=dict(
            dataset_meta=dict(
                classes=('a', 'b'), colours=[[1, 2, 255]], nested=dict(of=[1])
            )
        ),
        message_hub=dict(runtime_info={1: 0.5, 'on': True}),
    )
    assert type(read['meta']['dataset_meta']['nested']) is dict
    assert colours.dtype == np.uint8


@pytest.mark.parametrize(
    'hub',
    [
        None,
        [],
        dict(log_scalars=[1]),
        dict(log_scalars=dict(x=dict(values=1, counts=2, max_length=3))),
        dict(
            log_scalars=dict(
                x=dict(
                    values=torch.ones(2), counts=torch.ones(3), max_length=9
                )
            )
        ),
    ],
)
def test_what_is_not_a_history_is_left_to_mmengine(hub):
    before = repr(hub)
    read_plainly(dict(message_hub=hub))
    assert repr(hub) == before
