"""The config of a run, for ``tools/train.py`` and ``tools/test.py``."""

import keyword
import os
import shlex
from typing import Any

from mmengine.config import Config

from mmclip.adapting.run_files.run_folder import RunFolder, write_text
from mmclip.adapting.tuning.plan import PATIENCE, Plan, make_plan
from mmclip.datasets.preprocessing import (
    data_preprocessor,
    faster,
    test_pipeline,
)
from mmclip.few_shot.method import Classifier
from mmclip.named_model.encoder import Encoder
from mmclip.own_images.images import Images
from mmclip.shipped import shipped

WIDTH = 79
BATCH_OF_TESTS = 32
WORKERS = 2
UNDECAYED = ('cls_token', 'pos_embed')
METRICS = {False: 'accuracy/top1', True: 'multi-label/mAP'}
ABOUT = """\
{title}

    mmclip test {config} {model}
    mmclip train {config}

mmpretrain's own tools/test.py and tools/train.py take it, too. Training goes
on from load_from, at the end of this file, and writes to work_dir. If images
or run have moved, change the paths below.
"""


class Name(str):
    """A variable in a config: it is written without quotes."""

    __slots__ = ()


def dataset(images: Images, folder: RunFolder, split: str | None) -> dict:
    """Return the config of a split's data set, without a pipeline."""
    kind = dict(several_labels=True) if images.several_labels else {}
    return dict(
        type='mmclip.ImageTable',
        ann_file=os.path.abspath(folder.split),
        data_root=images.root,
        split=split,
        classes=os.path.abspath(folder.classes),
        **kind,
    )


def head_config(head: Any) -> dict[str, Any]:
    """Return the config of a head that :mod:`mmclip.few_shot` made."""
    package = type(head).__module__.split('.')[0]
    config: dict[str, Any] = dict(type=f'{package}.{type(head).__name__}')
    for key in (
        'num_classes',
        'in_channels',
        'num_images',
        'k',
        'alpha',
        'beta',
    ):
        if hasattr(head, key):
            config[key] = getattr(head, key)
    return config


def model_config(
    encoder: Encoder, classifier: Classifier, frozen_stages: int = -1
) -> dict[str, Any]:
    """Return the config of the whole model."""
    backbone = encoder.backbone(projects=classifier.projection is not None)
    if frozen_stages != -1:
        backbone['frozen_stages'] = frozen_stages
    return dict(
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=classifier.head.num_classes,
            **data_preprocessor(encoder.clip['preprocess']),
        ),
        backbone=backbone,
        head=head_config(classifier.head),
    )


def write_config(
    images: Images,
    encoder: Encoder,
    classifier: Classifier,
    folder: RunFolder,
    *,
    plan: Plan | None = None,
    title: str = '',
    seed: int = 0,
) -> None:
    """Write the config of a run.

    Args:
        images (Images): The images.
        encoder (Encoder): The tower.
        classifier (Classifier): The head to begin with.
        folder (RunFolder): Where it goes.
        plan (Plan | None): How to train. Defaults to None: what
            :func:`mmclip.adapting.tuning.plan.make_plan` says.
        title (str): What it is and what came out, on top of the file.
        seed (int): Of the training. Defaults to 0.
    """
    number = len(images.rows('train'))
    if plan is None:
        plan = make_plan(number, encoder.width())
    about = ABOUT.format(
        title=title or f'A classifier of {len(images.classes)} classes.',
        config=shlex.quote(str(folder.config)),
        model=shlex.quote(str(folder.model)),
    )
    sections = [
        _model(encoder, classifier, plan),
        _images(images, encoder, folder, plan),
        _training(images, encoder, plan),
        _runtime(images, folder, plan, seed),
    ]
    write_text(folder.config, as_python(about, sections))


def as_python(about: str, sections: list[tuple[str, dict[str, Any]]]) -> str:
    """Return the text of a config.

    Args:
        about (str): The docstring.
        sections (list): Each a comment and the variables below it.
    """
    said = about.replace('\\', '\\\\').replace('"', '\\"')
    lines = [f'"""{said}"""', '']
    for comment, values in sections:
        lines += [f'# {line}'.rstrip() for line in comment.splitlines()]
        lines += [f'{k} = {_value(v, 0, len(k))}' for k, v in values.items()]
        lines.append('')
    return '\n'.join(lines)


def _model(
    encoder: Encoder, classifier: Classifier, plan: Plan
) -> tuple[str, dict[str, Any]]:
    model = model_config(encoder, classifier, plan.frozen_stages)
    said = f'{encoder.called}'
    if plan.frozen_stages != -1:
        said += (
            f'. The patches and the first {plan.frozen_stages} blocks are '
            'frozen;\nfrozen_stages=-1 trains everything.'
        )
    return said, dict(default_scope='mmpretrain', model=model)


def _images(
    images: Images, encoder: Encoder, folder: RunFolder, plan: Plan
) -> tuple[str, dict[str, Any]]:
    clip = encoder.clip
    test = test_pipeline(clip['preprocess'], clip['img_size'])
    crop_and_resize = [
        dict(type='mmclip.SeedSample'),
        test[0],  # loads the image
        dict(
            type='RandomResizedCrop',
            scale=clip['img_size'],
            crop_ratio_range=(plan.least_crop, 1.0),
            backend='pillow',
            interpolation=clip['preprocess']['interpolation'],
        ),
        dict(type='PackInputs'),
    ]
    train = faster(crop_and_resize)

    def loader(split: str, pipeline: str, **others: Any) -> dict[str, Any]:
        return dict(
            batch_size=BATCH_OF_TESTS,
            num_workers=WORKERS,
            persistent_workers=WORKERS > 0,
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                **dataset(images, folder, split),
                pipeline=Name(pipeline),
            ),
            **dict(sampler=dict(type='DefaultSampler', shuffle=False))
            | others,
        )

    training = loader(
        'train',
        'train_pipeline',
        sampler=dict(type='mmclip.ResumableInfiniteSampler', shuffle=True),
    ) | dict(batch_size=plan.batch_size)
    values: dict[str, Any] = dict(
        train_pipeline=train, test_pipeline=test, train_dataloader=training
    )
    if len(images.rows('val')):
        metric: dict[str, Any] = dict(type='Accuracy', topk=(1,))
        if images.several_labels:
            metric = dict(type='mmclip.AveragePrecision')
        has_test = len(images.rows('test'))
        values |= dict(
            val_dataloader=loader('val', 'test_pipeline'),
            test_dataloader=loader('test', 'test_pipeline')
            if has_test
            else Name('val_dataloader'),
            val_evaluator=metric,
            test_evaluator=Name('val_evaluator'),
        )
    return (
        'Images. If a mirrored image keeps its class, add to the training\n'
        "pipeline: dict(type='RandomFlip', prob=0.5). It resizes by torch,\n"
        'which is faster than Pillow and differs by rounding.',
        values,
    )


def _training(
    images: Images, encoder: Encoder, plan: Plan
) -> tuple[str, dict[str, Any]]:
    undecayed = [k for k in UNDECAYED if k in encoder.state_dict]
    return (
        'Training. The rate is that of the head and the last norm; each block '
        'below\nhas layer_decay_rate of the one above.',
        dict(
            optim_wrapper=dict(
                clip_grad=dict(max_norm=1.0),
                optimizer=dict(
                    type='AdamW',
                    lr=plan.lr,
                    betas=(0.9, 0.999),
                    weight_decay=plan.weight_decay,
                    fused=True,
                ),
                constructor='mmclip.LayerDecayOptimWrapperConstructor',
                paramwise_cfg=dict(
                    layer_decay_rate=plan.layer_decay,
                    norm_decay_mult=0.0,
                    bias_decay_mult=0.0,
                    flat_decay_mult=0.0,
                    custom_keys={
                        f'.{k}': dict(decay_mult=0.0) for k in undecayed
                    },
                ),
            ),
            param_scheduler=[
                dict(
                    type='LinearLR',
                    start_factor=0.01,
                    by_epoch=False,
                    end=plan.warm_up,
                ),
                dict(
                    type='CosineAnnealingLR',
                    by_epoch=False,
                    begin=plan.warm_up,
                    end=plan.steps,
                ),
            ],
            train_cfg=dict(
                by_epoch=False,
                max_iters=plan.steps,
                val_interval=plan.validate_every,
            ),
        )
        | (
            dict(
                val_cfg={},
                test_cfg={},
                custom_hooks=[
                    dict(
                        type='EarlyStoppingHook',
                        monitor=METRICS[images.several_labels],
                        patience=PATIENCE,
                        min_delta=0.0,
                    )
                ],
            )
            if len(images.rows('val'))
            else {}
        ),
    )


def _runtime(
    images: Images, folder: RunFolder, plan: Plan, seed: int
) -> tuple[str, dict[str, Any]]:
    runtime = Config.fromfile(
        shipped('configs/_base_/default_runtime.py')
    ).to_dict()
    hooks = runtime['default_hooks']
    hooks['logger'] |= dict(interval=10, log_metric_by_epoch=False)
    hooks['checkpoint'] |= dict(
        by_epoch=False,
        interval=plan.validate_every,
        max_keep_ckpts=1,
        save_best=METRICS[images.several_labels]
        if len(images.rows('val'))
        else None,
    )
    runtime['visualizer']['vis_backends'] = [
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ]
    runtime |= dict(
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=seed),
        load_from=os.path.abspath(folder.model),
        work_dir=os.path.abspath(folder.path / 'training'),
    )
    del runtime['default_scope']
    return (
        "What mmclip's configs/_base_/default_runtime.py says, and:",
        runtime,
    )


def _value(value: Any, indent: int, used: int) -> str:
    """Write a value as Python, on one line if there is room.

    Args:
        value (Any): Of dicts, lists, tuples and plain values.
        indent (int): Spaces before the lines of the value.
        used (int): Characters before it on its line, and after it.
    """
    line = _line(value)
    if indent + used + 3 + len(line) <= WIDTH or not isinstance(
        value, dict | list | tuple
    ):
        return line
    inner = indent + 4
    if not isinstance(value, dict):
        begin, end = '[]' if isinstance(value, list) else '()'
        items = [_value(item, inner, 0) for item in value]
    elif _has_names(value):
        begin, end = 'dict(', ')'
        items = [f'{k}={_value(v, inner, len(k))}' for k, v in value.items()]
    else:
        begin, end = '{', '}'
        items = [
            f'{k!r}: {_value(v, inner, len(repr(k)))}'
            for k, v in value.items()
        ]
    space = ' ' * inner
    body = ''.join(f'{space}{item},\n' for item in items)
    return f'{begin}\n{body}{" " * indent}{end}'


def _line(value: Any) -> str:
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, list | tuple):
        inner = ', '.join(map(_line, value))
        if isinstance(value, list):
            return f'[{inner}]'
        return f'({inner},)' if len(value) == 1 else f'({inner})'
    if not isinstance(value, dict):
        return repr(value)
    if _has_names(value):
        return (
            f'dict({", ".join(f"{k}={_line(v)}" for k, v in value.items())})'
        )
    return f'{{{", ".join(f"{k!r}: {_line(v)}" for k, v in value.items())}}}'


def _has_names(value: dict) -> bool:
    return all(k.isidentifier() and not keyword.iskeyword(k) for k in value)
