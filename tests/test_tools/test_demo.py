"""The demo's commands one after the other, with a few steps each."""

import json

import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.test_tools.conftest import TOOLS

CONFIGS = REPOSITORY / 'configs' / 'clip'
DEMO = 'work_dirs/demo'
FEW = [
    '--cfg-options',
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
]


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_pictures(tmp_path, run):
    run(TOOLS / 'demo' / 'prepare_data.py')
    run(TOOLS / 'demo' / 'pretrain.py', '--steps', 3, '--batch-size', 16)
    run(TOOLS / 'demo' / 'zero_shot.py')
    run(
        TOOLS / 'model_converters' / 'openclip_to_mmcls.py',
        f'{DEMO}/open_clip/open_clip_config.json',
        f'{DEMO}/open_clip/open_clip_pytorch_model.bin',
        f'{DEMO}/clip.pth',
    )
    run(TOOLS / 'train.py', CONFIGS / 'clip-demo-digits.py', *FEW)
    run(TOOLS / 'train.py', CONFIGS / 'clip-demo-digits_scratch.py', *FEW)
    for model in ('fine_tuned', 'from_scratch'):
        for split in ('val', 'val_shifted'):
            run(
                TOOLS / 'test.py',
                CONFIGS / 'clip-demo-digits.py',
                f'{DEMO}/{model}/iter_2.pth',
                '--out',
                f'{DEMO}/{model}_{split}.pkl',
                '--work-dir',
                f'{DEMO}/test',
                '--cfg-options',
                f'test_dataloader.dataset.data_prefix={split}',
            )
    report = run(TOOLS / 'demo' / 'report.py').stdout

    folder = tmp_path / DEMO
    table = json.loads((folder / 'table.json').read_text())
    assert set(table) == {'zero_shot', 'fine_tuned', 'from_scratch'}
    for row in table.values():
        assert set(row) == {'val', 'val_shifted'}
        assert all(0 <= accuracy <= 100 for accuracy in row.values())
    assert f'{table["fine_tuned"]["val"]:.1f}' in report
    for name in ('table.png', 'curves.png', 'predictions.png'):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
