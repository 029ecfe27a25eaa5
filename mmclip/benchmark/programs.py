"""Commands and imports, each in a process of its own."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mmclip.analysis.parity import relative_difference
from mmclip.benchmark.pipelines import make_photos
from mmclip.benchmark.rounds import OURS, Case, Entry
from mmclip.checkpoint.files.reading import open_weights
from mmclip.checkpoint.towers.convert import convert, recognise
from mmclip.checkpoint.towers.tower import CLIP
from mmclip.shipped import shipped

MMPRETRAIN_TRAIN = """
import runpy, sys
from pathlib import Path
import mmpretrain
tool = Path(mmpretrain.__file__).parent / '.mim' / 'tools' / 'train.py'
sys.argv[0] = str(tool)
runpy.run_path(str(tool), run_name='__main__')
"""
# A run of one iteration, which keeps no checkpoint.
ONE_ITERATION = """
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=2, mean=[127.5] * 3, std=[127.5] * 3),
    backbone={backbone},
    head=dict(type='LinearClsHead', num_classes=2, in_channels=768),
)
train_dataloader = dict(
    batch_size=1,
    num_workers=1,
    dataset=dict(
        type='CustomDataset',
        data_root={images!r},
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=224),
            dict(type='PackInputs'),
        ],
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4, fused=True))
train_cfg = dict(by_epoch=False, max_iters=1)
"""
RUNTIME = dict(
    mmclip="""
_base_ = [{runtime!r}]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=10, save_last=False)
)
""",
    mmpretrain="""
default_scope = 'mmpretrain'
default_hooks = dict(
    logger=dict(type='LoggerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=10, save_last=False
    ),
)
""",
)
BACKBONES = dict(
    mmclip=dict(type=CLIP, arch='base', patch_size=16, act='quick_gelu'),
    mmpretrain=dict(
        type='VisionTransformer',
        arch='base',
        patch_size=16,
        pre_norm=True,
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
    ),
)
BUILD = {
    OURS: (
        'from mmclip.models import CLIPVisionTransformer',
        "CLIPVisionTransformer('large', act='quick_gelu', patch_size=14)",
    ),
    'open_clip': (
        'from open_clip.model import _build_vision_tower',
        '_build_vision_tower(768, dict(image_size=224, layers=24, '
        'width=1024, patch_size=14), quick_gelu=True)',
    ),
    'timm': (
        'import timm',
        "timm.create_model('vit_large_patch14_clip_quickgelu_224')",
    ),
}
MAKE_MODEL = """
import sys, open_clip, safetensors.torch
model = open_clip.create_model(sys.argv[1])
safetensors.torch.save_file(model.state_dict(), sys.argv[2])
"""
MEASURE = """
import resource, subprocess, sys
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
subprocess.run(sys.argv[1:], check=True, **quiet)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
CREATE_AND_SAVE = """
import sys, open_clip, torch
name, weights, out = sys.argv[1:]
model = open_clip.create_model(name, pretrained=weights)
torch.save(model.visual.state_dict(), out)
"""


def start_cases(only: Sequence[str] = ()) -> Iterator[Case]:
    """Yield cases of starting: imports, ``--help``, building a model."""
    help_ = [sys.executable, '-m', 'mmclip', 'train', '--help']
    yield _programs(
        'the help of the command that trains',
        {
            OURS: help_,
            'mmpretrain': _python(MMPRETRAIN_TRAIN, '--help'),
        },
        only,
    )
    with tempfile.TemporaryDirectory() as folder:
        yield _programs(
            'a run of one iteration, ViT-B-16, from command to end',
            _runs(Path(folder)),
            only,
        )
    yield _programs(
        'importing a backbone',
        {
            OURS: _python('from mmclip.models import CLIPVisionTransformer'),
            'mmpretrain': _python('import mmpretrain.models'),
            'open_clip': _python('import open_clip'),
            'timm': _python('import timm'),
        },
        only,
    )
    entries, missing = [], []
    for name, (import_, build) in BUILD.items():
        if only and name not in (OURS, *only):
            continue
        if not find_spec(name):
            missing.append(f'{name} (not installed)')
            continue
        scope: dict[str, Any] = {}
        exec(import_, scope)  # a line of BUILD, so that no peer must be there
        code = compile(build, name, 'eval')
        entries.append(Entry(name, partial(eval, code, scope)))
    yield Case('building ViT-L-14 with random weights', entries, missing)


def _runs(folder: Path) -> dict[str, list[str]]:
    """Write a config for each, and return the commands that train."""
    for name in ('a', 'b'):
        (folder / 'images' / name).mkdir(parents=True)
        make_photos(folder / 'images' / name, (500, 375), 1)
    tools = {
        OURS: [sys.executable, '-m', 'mmclip', 'train'],
        'mmpretrain': _python(MMPRETRAIN_TRAIN),
    }
    runtime = str(shipped('configs/_base_/default_runtime.py'))
    for name in tools:
        text = RUNTIME[name].format(runtime=runtime) + ONE_ITERATION.format(
            backbone=BACKBONES[name], images=str(folder / 'images')
        )
        (folder / f'{name}.py').write_text(text)
    return {
        name: [
            *(*tool, str(folder / f'{name}.py')),
            *('--work-dir', str(folder / name)),
        ]
        for name, tool in tools.items()
    }


def convert_cases(model: str) -> Iterator[Case]:
    """Yield the conversion of a whole model's safetensors, random weights.

    open_clip has no converter; loading and saving the image tower stands for
    it.

    Args:
        model (str): One of open_clip's names.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / 'weights.safetensors'
        made = [Path(folder) / f'{name}.pth' for name in ('ours', 'theirs')]
        _run(_python(MAKE_MODEL, model, weights))
        lines = {
            OURS: [
                *(sys.executable, '-m', 'mmclip', 'convert', model),
                *(str(weights), str(made[0]), '--tag', 'none', '--force'),
            ],
            'open_clip': _python(CREATE_AND_SAVE, model, weights, made[1]),
        }
        entries = [
            Entry(name, partial(_run, line), peak=_peak(line))
            for name, line in lines.items()
        ]
        entries[1].difference = _difference(*made)
        yield Case(f'conversion of {model} from safetensors', entries)


def _difference(ours: Path, theirs: Path) -> float:
    """Compare a conversion with the tower that open_clip saved."""
    wanted = open_weights(ours).read()['state_dict']
    saved = torch.load(theirs, mmap=True, weights_only=True)
    got = convert(saved, recognise(saved)).state_dict
    return max(
        relative_difference(got[key.removeprefix('backbone.')], wanted[key])
        for key in wanted
    )


def _programs(
    name: str, lines: dict[str, list[str]], only: Sequence[str]
) -> Case:
    entries, missing = [], []
    for who, line in lines.items():
        if only and who not in (OURS, *only):
            continue
        if find_spec(who):
            entries.append(Entry(who, partial(_run, line)))
        else:
            missing.append(f'{who} (not installed)')
    return Case(name, entries, missing)


def _python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, '-c', code, *map(str, arguments)]


def _run(line: list[str]) -> None:
    """Run a program; what it prints is shown only if it fails."""
    done = subprocess.run(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise RuntimeError(f'{" ".join(line)}: {done.stdout}')


def _peak(line: list[str]) -> int:
    """Return the largest resident memory of a program, in bytes."""
    # Measured by a small process: Linux counts what its parent holds, too.
    done = subprocess.run(
        _python(MEASURE, *line), stdout=subprocess.PIPE, check=True
    )
    return int(done.stdout) * (1 if sys.platform == 'darwin' else 2**10)
