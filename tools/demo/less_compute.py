"""What options that compute less cost in accuracy, on the demo's digits.

The demo's tower (FOLDER/work_dirs/demo/clip.pth, of run.py --ways) is
fine-tuned on 30 scans per class, with each option and several seeds of split
and training, and tested on all other scans. Those that were trained plainly
are also tested with merged tokens, and with int8 products.
"""

import argparse
import copy
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits import write_digits
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from mmclip.analysis.training_cost import (
    count_training_cost,
    epochs_by_size,
    operations_of,
)
from mmclip.engine.config.build import build_runner
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.markdown import markdown_table
from mmclip.models import merge_tokens

EXAMPLES = """examples:
  python %(prog)s
  python %(prog)s --seeds 0 1 2 3 4 --folder work_dirs/demo_seeds/0
"""
ROOT = Path(__file__).parents[2]
PLAIN, INT8 = 'plain', 'int8'
SHOTS, EPOCHS = 30, 20  # of ten iterations
SMALL, LAST = 24, 4  # pixels, and the epochs at the full 32


def use_small_images(cfg: Config) -> None:
    """Train on small images, and only in the last epochs on whole ones."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    whole = copy.deepcopy(pipeline)
    pipeline[2].scale = SMALL
    cfg.custom_hooks = [
        dict(
            type='SwitchRecipeHook',
            schedule=[
                dict(action_epoch=EPOCHS - LAST + 1, train_pipeline=whole)
            ],
        )
    ]


TRAINING: dict[str, Callable[[Config], None]] = {
    PLAIN: lambda cfg: None,
    'patch_dropout=0.25': lambda cfg: cfg.model.backbone.update(
        patch_dropout=0.25
    ),
    'patch_dropout=0.5': lambda cfg: cfg.model.backbone.update(
        patch_dropout=0.5
    ),
    f'{SMALL} px, then 32 in the last {LAST} of {EPOCHS} epochs': (
        use_small_images
    ),
}


def merging(per_block: int) -> Callable[[nn.Module], None]:
    """Return what makes a classifier merge tokens."""
    return lambda model: merge_tokens(model.backbone, per_block)


def quantize(model: Any) -> None:
    """Compute the products of linear layers in int8."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that torchao does it, too
        torch.ao.quantization.quantize_dynamic(
            model.backbone, {nn.Linear}, inplace=True
        )


INFERENCE: dict[str, Callable[[Any], None]] = {
    PLAIN: lambda model: None,
    '1 token merged per block': merging(1),
    '2 tokens merged per block': merging(2),
    '4 tokens merged per block': merging(4),
    INT8: quantize,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--seeds',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        help='of split and training (default: 0 1 2)',
    )
    add(
        '--folder',
        type=Path,
        default=Path(),
        help='where run.py --ways was run (default: here)',
    )
    args = parser.parse_args()
    if len(set(args.seeds)) < 2:
        parser.error('at least two seeds are needed for a spread')
    trained: dict[str, list[list[float]]] = {name: [] for name in TRAINING}
    tested: dict[str, list[list[float]]] = {name: [] for name in INFERENCE}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_digits(folder / 'digits', SHOTS, seed)
            models = {}
            for option, change in TRAINING.items():
                cfg = make_config(args.folder, folder, seed)
                change(cfg)
                models[option] = model = train(cfg)
                answers, labels = test(model, cfg)
                accuracy = float((answers == labels).float().mean())
                trained[option].append([operations(cfg), accuracy])
            plain, _ = test(models[PLAIN], cfg)
            image = torch.zeros(1, 3, 32, 32)
            for option, change in INFERENCE.items():
                model = copy.deepcopy(models[PLAIN])
                change(model)
                answers, labels = test(model, cfg)
                same = float((answers == plain).float().mean())
                accuracy = float((answers == labels).float().mean())
                flops = float('nan')  # torch counts none in int8
                if option != INT8:
                    with torch.no_grad():
                        flops = operations_of(partial(model, image))
                tested[option].append([flops, accuracy, same])
    print(f'Mean and spread of {len(args.seeds)} seeds, in percent')
    header = ['option', 'operations', 'top-1', 'answers as without it']
    for title, rows in ('training', trained), ('test', tested):
        whole = rows[PLAIN][0][0]
        body = [[name, *cells(rows[name], whole)] for name in rows]
        columns = header[: len(body[0])]
        print(f'\n**{title}**\n\n{markdown_table(columns, body)}')


def make_config(demo: Path, folder: Path, seed: int) -> Config:
    """Return the demo's config, for the scans in a folder."""
    cfg = load_config(str(ROOT / 'configs/clip/clip-demo-digits.py'))
    cfg.randomness.seed = seed
    cfg.log_level = 'ERROR'
    cfg.work_dir = str(folder / 'run')
    weights = demo / 'work_dirs' / 'demo' / 'clip.pth'
    cfg.model.backbone.init_cfg.checkpoint = str(weights)
    for loader in cfg.train_dataloader, cfg.test_dataloader:
        loader.dataset.data_root = str(folder / 'digits')
    cfg.train_dataloader.sampler.type = 'mmclip.ResumableSampler'
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.train_cfg = dict(by_epoch=True, max_epochs=EPOCHS)
    cfg.default_hooks.checkpoint.interval = 10**9
    cfg.default_hooks.checkpoint.save_last = False
    complete_dataloaders(cfg, pin_memory=False)
    return cfg


def train(cfg: Config) -> Any:
    runner = build_runner(cfg)
    runner.train()
    return runner.model


def test(model: Any, cfg: Config) -> tuple[Tensor, Tensor]:
    """Return answers for the scans that were not trained on, and labels."""
    samples = []
    for batch in Runner.build_dataloader(cfg.test_dataloader):
        samples += model.eval().test_step(batch)
    answers = torch.cat([sample.pred_label for sample in samples])
    return answers, torch.cat([sample.gt_label for sample in samples])


def operations(cfg: Config) -> float:
    """Return the operations for one image in each epoch."""
    return sum(
        epochs * count_training_cost(cfg, size).flops_per_image
        for size, epochs in epochs_by_size(cfg).items()
    )


def cells(values: list[list[float]], whole: float) -> list[str]:
    """Return the share of operations, then means and spreads."""
    (flops, *_), *rates = np.array(values).T
    share = '-' if np.isnan(flops) else f'{flops / whole:.0%}'
    return [share] + [
        f'{100 * r.mean():.1f} ± {100 * r.std(ddof=1):.1f}' for r in rates
    ]


if __name__ == '__main__':
    main()
