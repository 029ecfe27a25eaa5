"""Running the tools as a user does, on a data set of a few images."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mmpretrain
import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import REPOSITORY
from tests.processes import Process, start
from tests.test_checkpoint.conftest import Payload

Main = Callable[[list[str] | None], int]

TOOLS = REPOSITORY / 'tools'
MMPRETRAIN_TOOLS = Path(mmpretrain.__file__).parent / '.mim' / 'tools'
TOOL_SETS = pytest.mark.parametrize(
    'tools', [TOOLS, MMPRETRAIN_TOOLS], ids=['mmclip', 'mmpretrain']
)
CONFIG = """
_base_ = ['{base}']
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
loader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        type='CustomDataset', data_root='images', pipeline=pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
train_dataloader = val_dataloader = test_dataloader = loader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=(1,))
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=3, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True
    ),
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch=dict(width=32, depth=2, num_heads=2, mlp_width=64),
        act='quick_gelu',
        img_size=32,
        patch_size=8,
        drop_path_rate=0.1,
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=3,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.75),
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=4, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=4)
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with ``images/`` of three classes and a ``config.py``."""
    return make_project(tmp_path)


def make_project(root: Path) -> Path:
    random = np.random.default_rng(0)
    for label, name in enumerate(['blue', 'green', 'red']):
        folder = root / 'images' / name
        folder.mkdir(parents=True)
        for i in range(4):
            pixels = random.integers(0, 128, (32, 32, 3), dtype=np.uint8)
            pixels[..., 2 - label] += 127
            Image.fromarray(pixels).save(folder / f'{i}.png')
    write_config(root)
    return root


def write_config(folder: Path) -> Path:
    base = REPOSITORY / 'configs' / '_base_' / 'default_runtime.py'
    path = folder / 'config.py'
    path.write_text(CONFIG.format(base=base))
    return path


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A checkpoint that, unpickled, makes the folder ``witness``."""
    content = dict(state_dict={}, extra=Payload(tmp_path / 'witness'))
    torch.save(content, tmp_path / 'evil.pth')
    return tmp_path / 'evil.pth'


@pytest.fixture
def call(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> Callable[..., SimpleNamespace]:
    """Call a command's ``main`` in this process, in ``tmp_path``.

    The result has its exit ``code``, and what it wrote to ``out`` and
    ``err``.
    """

    def _call(main: Main, *args: object) -> SimpleNamespace:
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        code = main([str(argument) for argument in args])
        return SimpleNamespace(code=code, **capsys.readouterr()._asdict())

    return _call


@pytest.fixture
def exit_message(call: Callable[..., SimpleNamespace]) -> Callable[..., str]:
    """What a command that goes wrong says, from ``error:`` on."""

    def _exit_message(main: Main, *args: object) -> str:
        result = call(main, *args)
        assert result.code in (1, 2)  # 2 if the arguments are wrong
        return result.err[result.err.index('error: ') :].rstrip('\n')

    return _exit_message


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """Run a Python or shell tool in ``tmp_path``, or ``ranks`` of it.

    The result has its ``returncode`` and all its output, ``stdout``.
    """

    def _run(
        tool: Path,
        *args: object,
        fails: bool = False,
        ranks: int = 0,
        **env: str,
    ) -> SimpleNamespace:
        line = [tool, *map(str, args)]
        settings = dict(
            cwd=tmp_path, env=os.environ | dict(PYTHON=sys.executable) | env
        )
        process: Process | subprocess.Popen
        if tool.suffix == '.py':
            process = start(*line, **settings, ranks=ranks)
        else:
            process = subprocess.Popen(
                ['bash', *line],
                **settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        log, _ = process.communicate(timeout=600)
        assert (process.returncode != 0) == fails, log
        return SimpleNamespace(returncode=process.returncode, stdout=log)

    return _run
