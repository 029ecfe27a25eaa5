"""Whole iterations of a run, beside a loop that does nothing but train."""

import copy
import itertools
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmclip.benchmark.models import TOLERANCES, TOWERS
from mmclip.benchmark.pipelines import make_photos
from mmclip.benchmark.rounds import OURS, Case, Entry, Row, compete
from mmclip.engine.config.build import LoggedRunner
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.engine.config.train_options import use_mixed_precision
from mmclip.models.architecture import parse_arch
from mmclip.shipped import shipped

RECIPE = 'configs/clip/clip-b16-224.py'
PHOTOS, BATCHES = 16, 2
BARE_LOOP = 'bare loop'


def time_iterations(
    towers: Sequence[tuple[str, int]],
    precisions: Sequence[str],
    device: torch.device,
    rounds: int,
) -> Iterator[tuple[list[Row], list[str]]]:
    """Time iterations of the recipe for ViT-B/16, with each tower.

    Batches are in memory, so that loading is left out. The bare loop has the
    same model, images, loss, fused AdamW and moving average, but neither
    runner nor hooks nor checks.

    Args:
        towers (Sequence[tuple[str, int]]): Names in ``TOWERS`` and batch
            sizes.
        precisions (Sequence[str]): ``'fp32'`` or ``'bf16'``, by autocast.
        device (torch.device): Where to compute.
        rounds (int): How many rounds count.

    Yields:
        tuple[list[Row], list[str]]: The rows of the run and of the bare loop,
        and the lines of code at which an iteration waits for a GPU.
    """
    for name, batch in towers:
        for precision in precisions:
            with tempfile.TemporaryDirectory() as folder:
                cfg = _config(Path(folder), name, batch)
                cfg.device = device.type
                if precision == 'bf16':
                    use_mixed_precision(cfg.optim_wrapper)
                runner: Any = _TurnsRunner.from_cfg(cfg)
                runner.case = (
                    f'{name}, whole iteration, batch {batch}, {precision}'
                )
                runner.rounds, runner.precision = rounds, precision
                runner.train()
                yield runner.train_loop.rows, runner.train_loop.waits


def _config(folder: Path, tower: str, batch: int) -> Config:
    """Return the recipe with another tower, for photos made here."""
    cfg = load_config(shipped(RECIPE))
    cfg.work_dir = str(folder / 'run')
    cfg.log_level = 'ERROR'
    paths = make_photos(folder, (500, 375), PHOTOS)
    images = batch * BATCHES
    lines = [f'{paths[i % PHOTOS]} {i % 1000}\n' for i in range(images)]
    (folder / 'images.txt').write_text(''.join(lines))
    img_size = TOWERS[tower].get('img_size', 224)
    pipeline = cfg.train_pipeline
    pipeline[2].scale = img_size
    loader = cfg.train_dataloader
    loader.batch_size, loader.num_workers = batch, 0
    loader.dataset = dict(
        type='mmclip.ImageFolder',
        data_root='',
        ann_file=str(folder / 'images.txt'),
        metainfo=dict(classes=[str(number) for number in range(1000)]),
        pipeline=pipeline,
    )
    for part in ('dataloader', 'cfg', 'evaluator'):
        cfg[f'val_{part}'] = cfg[f'test_{part}'] = None
    backbone = cfg.model.backbone
    backbone.update(TOWERS[tower] | dict(img_size=img_size, init_cfg=None))
    head = cfg.model.head
    head.in_channels, *_ = parse_arch(backbone.arch)
    # The recipe's head starts at 0, and its loss would be that of any image.
    head.init_cfg = dict(type='Normal', layer='Linear', std=0.1)
    complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
    return cfg


class _TurnsRunner(LoggedRunner):
    """A runner as ``mmclip train`` builds it, with a loop that takes turns."""

    def build_train_loop(self, loop: Any) -> Any:
        """Build the loop for the same images."""
        loader = super().build_train_loop(loop).dataloader
        return _TurnsLoop(self, loader, max_epochs=1)


class _TurnsLoop(EpochBasedTrainLoop):
    """A loop whose iterations take turns with a bare loop's."""

    rows: list[Row]
    waits: list[str]

    def run(self) -> Any:
        """Time both."""
        runner: Any = self.runner
        batches = list(self.dataloader)
        bare = _BareLoop(runner, batches)
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        runner.model.train()
        mine = itertools.cycle(batches)

        def iterate() -> None:
            self.run_iter(self.iter, next(mine))

        iterate()
        wanted = runner.message_hub.get_scalar('train/loss').current()
        difference = abs(bare().item() / wanted - 1)
        if difference > TOLERANCES[runner.precision]:
            raise RuntimeError(
                f'The losses differ by {difference:.1e}: the bare loop does '
                'something else.'
            )
        entries = [
            Entry(OURS, iterate, 0.0),
            Entry(BARE_LOOP, bare, difference),
        ]
        self.rows = compete(Case(runner.case, entries), runner.rounds)
        self.waits = waits_of(iterate) if bare.device.type == 'cuda' else []
        return runner.model


def waits_of(call: Callable[[], Any]) -> list[str]:
    """Return the lines of code at which a call waits for the GPU."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            call()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return [
        f'{warning.filename}:{warning.lineno}'
        for warning in caught
        if 'synchronizing CUDA operation' in str(warning.message)
    ]


class _BareLoop:
    """The same training in as few steps as possible."""

    def __init__(self, runner: Any, batches: Sequence[Any]):
        theirs = runner.model
        self.model = copy.deepcopy(theirs).train()
        twins = dict(
            zip(theirs.parameters(), self.model.parameters(), strict=True)
        )
        groups = runner.optim_wrapper.optimizer.param_groups
        self.optimizer = torch.optim.AdamW(
            [g | dict(params=[twins[p] for p in g['params']]) for g in groups],
            fused=True,
        )
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9998)
        )
        self.batches = itertools.cycle(batches)
        self.device = next(self.model.parameters()).device
        pixels = runner.cfg.model.data_preprocessor
        self.mean, self.std = (
            torch.tensor(values, device=self.device).view(3, 1, 1)
            for values in (pixels.mean, pixels.std)
        )
        self.is_half = runner.precision == 'bf16'

    def __call__(self) -> Tensor:
        """Train on the next batch, and return the loss."""
        batch = next(self.batches)
        images = batch['inputs'].to(self.device).flip(1)  # BGR to RGB
        labels = [sample.gt_label for sample in batch['data_samples']]
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.is_half
        ):
            features = self.model.backbone((images - self.mean) / self.std)
            scores = self.model.head(features)
            loss = F.cross_entropy(
                scores,
                torch.cat(labels).to(self.device),
                label_smoothing=0.1,
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss.detach()
