"""Fine-tuning of the tower, from the best linear classifier on its features.

It starts from that classifier, as LP-FT does (arXiv 2202.10054), and ends
between it and the tuned weights, as WiSE-FT does (arXiv 2109.01903).
"""

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from mmclip.adapting.choice import interval
from mmclip.adapting.config_file import METRICS, dataset, write_config
from mmclip.adapting.encoder import Encoder, encode
from mmclip.adapting.model_file import write_model
from mmclip.adapting.plan import (
    SHORTEST,
    VALIDATIONS,
    Plan,
    make_plan,
    shape_of,
    stages_to_freeze,
)
from mmclip.adapting.run_folder import RunFolder, write_text
from mmclip.adapting.timing import measure_speed
from mmclip.averaging.average import interpolate, read_weights
from mmclip.averaging.weight_space import WeightTester
from mmclip.checkpoint.meta import TRAINING
from mmclip.engine.config.build import build_runner, naming_the_config
from mmclip.engine.config.load import complete_dataloaders, load_config
from mmclip.engine.progress_hook import close_progress
from mmclip.engine.resume.checkpoints_of_run import checkpoints_of
from mmclip.engine.resume.find_checkpoint import has_checkpoints
from mmclip.few_shot.method import Classifier, Encoded, Method, Projection
from mmclip.own_images.splits import split_by_class
from mmclip.own_images.table import Images
from mmclip.text.zero_shot_head import ZeroShotClsHead

NAME, TITLE = 'fine_tuned', 'fine-tuned'
SOURCE = 'arXiv 2202.10054, arXiv 2109.01903'
# Heads that are one linear layer, so that the tower's rates suit them.
LINEAR = (LinearClsHead, ZeroShotClsHead)
RECIPES = ('auto', 'light', 'full')
# Fewer images than this make the accuracy of a fifth of them too uncertain
# to choose by it; all are trained on, and alpha is WiSE-FT's default.
HOLD_OUT_FROM, MOST_HELD_OUT = 1000, 2000
ALPHA = 0.5
ALPHAS = (0.25, 0.5, 0.75, 1.0)
# With fewer wrong images, even a classifier without mistakes does not differ
# from this one (McNemar's exact test at 5 %, as in :func:`.choice.differ`).
LEAST_WRONG = 6
# With one scan per digit, the demo's model gains nothing that could be told
# from noise (0.3 points); with three, it gains 2 to 3.5 points.
LEAST_PER_CLASS = 2
# mmengine's name for the folder of a run's logs, such as 20261130_034500.
TIMESTAMP = '[0-9]' * 8 + '_' + '[0-9]' * 6 + '/'
LAST = 0.2  # the share of the steps whose loss says whether it has learned


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned classifier.

    Args:
        encoder (Encoder): The tower, with its new weights.
        classifier (Classifier): The head, and the projection below it.
        seen (Encoded): All images, as the new tower sees them.
        settings (dict): The start and WiSE-FT's alpha.
        training (dict): What ``metrics.json`` says of the training.
    """

    encoder: Encoder
    classifier: Classifier
    seen: Encoded
    settings: dict[str, Any]
    training: dict[str, Any]


def why_not(images: Images, right: Tensor) -> str:
    """Tell why fine-tuning is not worth its time; empty if it is.

    Args:
        images (Images): The images.
        right (Tensor): Which validation images the best classifier so far has
            right, ``(n,)`` booleans.
    """
    if images.several_labels:
        return 'images with several labels are not fine-tuned yet'
    per_class = len(images.rows('train')) / len(images.classes)
    if per_class < LEAST_PER_CLASS:
        return f'{per_class:.1f} training images per class are too few'
    if (wrong := int((~right).sum())) < LEAST_WRONG:
        return (
            f'only {wrong} of {len(right):,} validation images are wrong, so '
            'no better classifier could be told from this one'
        )
    return ''


def tune(
    images: Images,
    encoder: Encoder,
    everything: Encoded,
    method: Method,
    settings: dict[str, Any],
    folder: RunFolder,
    *,
    recipe: str = 'auto',
    seconds: float = 600.0,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Tuned | None:
    """Fine-tune the tower, if there is time.

    A run that was stopped goes on where it stopped.

    Args:
        images (Images): The images, of which the training images are used.
        encoder (Encoder): The tower.
        everything (Encoded): All images, as the tower sees them.
        method (Method): What makes the linear classifier to start from.
        settings (dict): Its arguments.
        folder (RunFolder): The run, in which ``tuning/`` is for the training.
        recipe (str): ``'auto'``: as far as the time allows; ``'full'``: all
            blocks and all steps; or a config to train with, which is based on
            ``config.py`` of a run. Defaults to ``'auto'``.
        seconds (float): The time for ``'auto'``. Defaults to 600.
        seed (int): Of the images held out and of the training.
        say (Callable): Prints a line for the user.

    Returns:
        Tuned | None: None if there is not enough time.
    """
    work = RunFolder(folder.path / 'tuning')
    rows = images.rows('train')
    inner = hold_out(images.take(rows), seed)
    start = method.fit(
        everything.take(rows).take(inner.rows('train')), **settings
    )
    made_of = dict(
        images=_digest([inner.root, inner.paths, inner.labels, inner.splits]),
        model=encoder.called,
        start=[method.name, settings],
        recipe=recipe,
        seed=seed,
    )
    state = _State.read(work, made_of)
    if state is None:
        state = _prepare(
            inner, encoder, start, work, made_of, recipe, seconds, seed,
            tested=len(images), say=say,
        )  # fmt: skip
        if state is None:
            _clean(work, folder)
            return None
        state.write(work)
    began = time.perf_counter()
    trained = _train(work, inner, folder.log, say)
    alpha = ALPHA
    light = read_weights(work.model)['state_dict']
    tuned = read_weights(trained.best)['state_dict']
    if len(inner.rows('val')):
        alpha = choose_alpha(trained.runner, light, tuned)
    weights = interpolate(light, tuned, alpha)
    result, classifier = as_classifier(encoder, start, weights)
    cache = work.path / 'features'
    features = encode(
        result, dataset(images, folder, None), cache, say=say
    ).features
    seen = replace(
        everything,
        pooled=torch.tensor(features),
        projection=result.projection,
        text=None,
    )
    training = trained.numbers | dict(
        seconds=round(time.perf_counter() - began, 1),
        estimated_seconds=round(state.estimated, 1),
        plan=state.plan | dict(alpha=alpha),
    )
    _clean(work, folder)
    return Tuned(
        result,
        classifier,
        seen,
        dict(start=method.name, alpha=alpha),
        training,
    )


def hold_out(train: Images, seed: int) -> Images:
    """Hold out a fifth of the training images, if there are enough.

    Args:
        train (Images): Training images only.
        seed (int): Which are drawn.
    """
    if len(train) < HOLD_OUT_FROM:
        return train
    held = split_by_class(train, seed)
    rows = held.rows('val')
    splits = np.array(held.splits)
    random = np.random.default_rng(seed)
    splits[random.permutation(rows)[MOST_HELD_OUT:]] = 'train'
    return replace(held, splits=tuple(splits.tolist()))


def choose_alpha(
    runner: Runner, light: Mapping[str, Tensor], tuned: Mapping[str, Tensor]
) -> float:
    """Choose WiSE-FT's alpha on the images held out.

    Ties go to the alpha nearest to the paper's default.
    """
    cfg = runner.cfg
    metric = METRICS['several_labels' in cfg.val_dataloader.dataset]
    test = WeightTester(
        runner, dict(val=(cfg.val_dataloader, cfg.val_evaluator)), metric
    )
    scores = {a: test(interpolate(light, tuned, a))['val'] for a in ALPHAS}
    return max(ALPHAS, key=lambda a: (scores[a], -abs(a - ALPHA)))


def has_learned(
    losses: np.ndarray, num_classes: int, right: tuple[int, int] | None
) -> bool:
    """Tell whether a training's end is better than chance, beyond noise.

    Args:
        losses (np.ndarray): The loss of each step.
        num_classes (int): K; the loss of chance is ln K.
        right (tuple[int, int] | None): Right ones of how many validation
            images, if there are any.
    """
    last = losses[-max(2, math.ceil(LAST * len(losses))) :]
    error = last.std() / math.sqrt(len(last))
    if not last.mean() + 2 * error < math.log(num_classes):
        return False
    return right is None or interval(*right)[0] > 100 / num_classes


def as_classifier(
    encoder: Encoder, start: Classifier, weights: Mapping[str, Tensor]
) -> tuple[Encoder, Classifier]:
    """Turn weights of the whole model into a tower and a head.

    Args:
        encoder (Encoder): The tower before the training.
        start (Classifier): The head before the training.
        weights (Mapping): ``backbone.*`` and ``head.*``.
    """
    parts: dict[str, dict[str, Tensor]] = dict(backbone={}, head={})
    for key in weights:
        part, _, name = key.partition('.')
        parts[part][name] = weights[key]
    tower = parts['backbone']
    backbone = encoder.backbone(projects=start.projection is not None)
    result = Encoder(
        encoder.called, encoder.clip | dict(backbone=backbone), tower, None
    )
    start.head.load_state_dict(parts['head'])
    projection = start.projection
    if projection is not None:
        projection = Projection(tower['proj'], tower.get('proj_bias'))
    return result, Classifier(start.head, projection)


@dataclass(frozen=True)
class _State:
    """What a training is for, and how it is done; it marks a begun one."""

    made_of: dict[str, Any]
    plan: dict[str, Any]
    estimated: float

    @classmethod
    def read(cls, work: RunFolder, made_of: dict[str, Any]) -> '_State | None':
        """Return the state of a begun training for the same, if any."""
        path = work.path / 'state.json'
        if not path.is_file():
            return None
        state = cls(**json.loads(path.read_text('utf-8')))
        return state if state.made_of == made_of else None

    def write(self, work: RunFolder) -> None:
        write_text(work.path / 'state.json', json.dumps(asdict(self)))


@dataclass(frozen=True)
class _Trained:
    runner: Runner
    best: str
    numbers: dict[str, Any]


def _prepare(
    inner: Images,
    encoder: Encoder,
    start: Classifier,
    work: RunFolder,
    made_of: dict[str, Any],
    recipe: str,
    seconds: float,
    seed: int,
    *,
    tested: int,
    say: Callable[[str], None],
) -> _State | None:
    """Write what a training needs, if there is time for it."""
    _clean(work)
    inner.write(work.split)
    write_text(work.classes, '\n'.join(inner.classes) + '\n')
    write_model(work.model, encoder, start, inner.classes)
    held_out = len(inner.rows('val'))
    tested += held_out * (VALIDATIONS + len(ALPHAS)) if held_out else 0

    def write(plan: Plan) -> Config:
        write_config(inner, encoder, start, work, plan=plan, seed=seed)
        return load_config(work.config)

    width, depth = shape_of(encoder.state_dict)
    plan = make_plan(len(inner.rows('train')), width)
    if recipe not in RECIPES:
        cfg = _with_data(load_config(recipe), write(plan))
        write_text(work.config, cfg.pretty_text + '\n')
        speed = measure_speed(cfg)
        steps, settings = cfg.train_cfg.max_iters, dict(config=recipe)
    else:
        choices = [-1]
        if recipe == 'auto':
            choices = stages_to_freeze(depth, gpu=torch.cuda.is_available())
        for frozen in choices:
            plan = replace(plan, frozen_stages=frozen)
            speed = measure_speed(write(plan))
            fit = int((seconds - tested * speed.image) / speed.step)
            if fit >= plan.steps or recipe == 'full':
                break
        else:
            needed = plan.steps * speed.step + tested * speed.image
            if fit < SHORTEST * plan.steps:
                say(
                    f'not fine-tuned: it would take {_minutes(needed)}; '
                    f'allow it with --time {_minutes(1.2 * needed)}'
                )
                return None
            plan = plan.shortened(fit)
            write(plan)
        steps, settings = plan.steps, asdict(plan)
    estimated = steps * speed.step + tested * speed.image
    say(
        f'fine-tuning: {steps:,} steps, about {_minutes(estimated)}'
        + (' at most' if held_out else '')
    )
    return _State(made_of, settings, estimated)


def _with_data(cfg: Config, ours: Config) -> Config:
    """Let a user's config train on the images of a run, from its start."""
    mine = cfg.model
    cfg.model = ours.model
    for key in TRAINING:
        if key in mine.backbone:
            cfg.model.backbone[key] = mine.backbone[key]
    if 'train_cfg' in mine:
        cfg.model.train_cfg = mine.train_cfg
    if 'loss' in mine.head:
        cfg.model.head.loss = mine.head.loss
    for key in ('train_dataloader', 'val_dataloader'):
        if key not in ours:
            cfg[key] = None
            continue
        pipeline = cfg[key].dataset.pipeline
        cfg[key].dataset = ours[key].dataset
        cfg[key].dataset.pipeline = pipeline
    for key in ('val_cfg', 'val_evaluator', 'custom_hooks'):
        if cfg.val_dataloader is None:
            cfg[key] = [] if key == 'custom_hooks' else None
    if cfg.val_dataloader is None:
        cfg.default_hooks.checkpoint.save_best = None
    cfg.load_from, cfg.work_dir = ours.load_from, ours.work_dir
    return cfg


def _train(
    work: RunFolder, inner: Images, log: Path, say: Callable[[str], None]
) -> _Trained:
    cfg = load_config(work.config)
    cfg.log_level = 'WARNING'
    complete_dataloaders(cfg, pin_memory=torch.cuda.is_available())
    if has_checkpoints(cfg):
        cfg.resume, cfg.load_from = True, None
    runner = build_runner(cfg)
    try:
        with (
            naming_the_config(cfg),
            open(log, 'a', encoding='utf-8') as whole,
            contextlib.redirect_stdout(whole),  # mmengine prints a line
        ):
            runner.train()
    except KeyboardInterrupt:
        close_progress(runner)
        say('stopped; the same command goes on from here')
        raise
    finally:
        _end_log(runner, log)
    scalars = runner.message_hub.log_scalars
    losses = scalars['train/loss'].data[0]
    metric = METRICS[inner.several_labels]
    found = scalars.get(f'val/{metric}')
    accuracies = [] if found is None else found.data[0].tolist()
    every = cfg.train_cfg.get('val_interval', 1)
    number = len(inner.rows('val'))
    right = (
        (round(max(accuracies) / 100 * number), number) if accuracies else None
    )
    learned = has_learned(losses, len(inner.classes), right)
    if not learned:
        say(
            'fine-tuning has not learned: its loss or accuracy is within '
            'noise of guessing. Try more images per class, a lower rate '
            '(--recipe with a copy of config.py), or --recipe light.'
        )
    numbers = dict(
        steps=[
            dict(step=i + 1, loss=round(float(loss), 4))
            for i, loss in enumerate(losses)
        ],
        validation=[
            dict(step=min((i + 1) * every, len(losses)), accuracy=accuracy)
            for i, accuracy in enumerate(accuracies)
        ],
        chance_loss=math.log(len(inner.classes)),
        learned=learned,
    )
    return _Trained(runner, next(iter(checkpoints_of(runner))), numbers)


def _end_log(runner: Runner, log: Path) -> None:
    """Add the runner's log to that of the run, and end it."""
    file = runner.logger.log_file
    with open(log, 'a', encoding='utf-8') as whole:
        whole.write(Path(file).read_text('utf-8'))
    # What is logged from now on goes where it went before.
    logger: Any = MMLogger._instance_dict.pop(runner.experiment_name)
    for handler in logger.handlers:
        handler.close()


def _clean(work: RunFolder, run: RunFolder | None = None) -> None:
    """Remove what fine-tuning wrote, and keep its curves for TensorBoard."""
    training = work.path / 'training'
    if run is not None:
        for file in training.glob('*/vis_data/*'):
            if file.name.startswith(('events.', 'scalars.')):
                (run.path / 'events').mkdir(exist_ok=True)
                shutil.move(file, run.path / 'events' / file.name)
    for pattern in ('*.pth', 'last_checkpoint', '*.py'):
        for file in training.glob(pattern):
            file.unlink()
    for logs in training.glob(TIMESTAMP):
        shutil.rmtree(logs)
    if (work.path / 'features').is_dir():
        shutil.rmtree(work.path / 'features')
    for file in (
        work.model,
        work.config,
        work.split,
        work.classes,
        work.path / 'state.json',
    ):
        file.unlink(missing_ok=True)
    for emptied in (training, work.path):
        if emptied.is_dir() and not any(emptied.iterdir()):
            emptied.rmdir()


def _digest(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()


def _minutes(seconds: float) -> str:
    if seconds < 100:
        return f'{max(1, round(seconds))}s'
    return f'{math.ceil(seconds / 60)}min'
