"""Short runs in this process, which record what each iteration trains with."""

import copy
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper

from mmclip.models import CLIPVisionTransformer
from tests.test_engine.conftest import Linear, train_in

HYPERPARAMETERS = ('lr', 'momentum', 'weight_decay', 'betas', 'eps')


class Tower(Linear):
    """The same model, with a backbone whose layers have rates of their own."""

    def __init__(self):
        super().__init__()
        self.backbone = CLIPVisionTransformer(
            arch=dict(width=8, depth=2, num_heads=1, mlp_width=8),
            act='gelu',
            img_size=4,
            patch_size=4,
        )


class Record(Hook):
    """What each iteration trains with: rates, and the samples of its batch."""

    def __init__(self):
        self.rates, self.samples, self.by_epoch = {}, {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        self.rates[runner.iter] = [
            {key: group[key] for key in HYPERPARAMETERS if key in group}
            for group in groups
        ]
        samples = [int(x.item()) for x in data_batch['inputs']]
        self.samples[runner.iter] = samples
        self.by_epoch.setdefault(runner.epoch, []).extend(samples)


def cosine(epochs, lr_end=0.0):
    """The schedule of a public report: one epoch of warm-up, then a cosine."""
    return [
        dict(
            type='LinearLR',
            start_factor=0.01,
            end=1,
            convert_to_iter_based=True,
        ),
        dict(
            type='CosineAnnealingLR',
            eta_min=lr_end,
            begin=1,
            end=epochs,
            convert_to_iter_based=True,
        ),
    ]


SCHEDULES = {
    'warm-up and cosine': cosine,
    'by epoch': lambda epochs: [
        dict(type='LinearLR', start_factor=0.1, end=2),
        dict(type='CosineAnnealingLR', begin=1, end=epochs),
    ],
    'one cycle': lambda epochs: [
        dict(
            type='OneCycleLR',
            eta_max=0.1,
            end=epochs,
            convert_to_iter_based=True,
        )
    ],
    'polynomial': lambda epochs: [
        dict(
            type='PolyLR',
            power=0.9,
            eta_min=1e-5,
            end=epochs,
            convert_to_iter_based=True,
        )
    ],
    # The warm-up counts iterations, and the steps epochs.
    'steps': lambda epochs: [
        dict(type='LinearLR', by_epoch=False, start_factor=0.1, end=5),
        dict(type='MultiStepLR', milestones=[1, epochs - 1], gamma=0.3),
    ],
    'decay and momentum': lambda epochs: [
        dict(type='CosineAnnealingLR', T_max=epochs, by_epoch=True),
        dict(type='CosineAnnealingMomentum', T_max=epochs, eta_min=0.5),
        dict(
            type='CosineAnnealingWeightDecay',
            end=epochs,
            convert_to_iter_based=True,
        ),
    ],
    'restarts': lambda epochs: [
        dict(
            type='CosineRestartLR',
            periods=[2, epochs],
            restart_weights=[1, 0.5],
            eta_min=0.0,
        )
    ],
}
ADAMW = dict(
    type='AdamW', lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05
)
LAYER_DECAY = dict(
    constructor='mmclip.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)


def train(
    folder: Path,
    epochs: int = 4,
    resume: bool | str = False,
    new_schedule: bool = False,
    optimizer: dict = ADAMW,
    wrapper: dict | OptimWrapper | None = None,
    schedule: list | None = None,
    images: int = 6,
    batch_size: int = 2,
    sampler: str = 'mmclip.ResumableSampler',
    shuffle: bool = True,
    iters: int | None = None,
    interval: int = 1,
    by_epoch: bool = True,
    model: Callable[[], Linear] = Linear,
    custom_hooks: tuple = (),
    config: dict | None = None,
    **more: object,
) -> Record:
    """Train three iterations an epoch, unless told otherwise."""
    record = Record()
    if not isinstance(wrapper, OptimWrapper):
        wrapper = copy.deepcopy(dict(optimizer=optimizer) | (wrapper or {}))
    train_in(
        folder,
        epochs,
        model(),
        checkpoint=dict(interval=interval, by_epoch=by_epoch and not iters),
        resume=bool(resume),
        load_from=str(folder / resume) if isinstance(resume, str) else None,
        images=images,
        batch_size=batch_size,
        sampler=dict(type=sampler, shuffle=shuffle),
        iters=iters,
        custom_hooks=[record, *copy.deepcopy(custom_hooks)],
        optim_wrapper=wrapper,
        settings=dict(
            cfg=Config(copy.deepcopy(config)) if config else None,
            param_scheduler=copy.deepcopy(
                cosine(epochs) if schedule is None else schedule
            ),
            default_scope='mmpretrain',
        ),
        logger=None,
        exact_resume=dict(
            type='mmclip.ExactResumeHook', new_schedule=new_schedule
        ),
        **more,
    )
    return record
