"""Misspelt names inside a config, found before anything is built.

mmengine and mmpretrain ignore some of them, and name others only when the part
is built, for some hooks at the first checkpoint.
"""

import difflib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODEL_WRAPPERS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    Registry,
)
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.engine.config.signatures import (
    accepted_arguments,
    argument_names,
    strings_in,
)

# Where a config describes an object, and what its builder takes for itself.
PLACES: tuple[tuple[str, Registry, set[str]], ...] = (
    ('default_hooks.*', HOOKS, {'priority'}),
    ('custom_hooks.*', HOOKS, {'priority'}),
    ('optim_wrapper', OPTIM_WRAPPERS, {'constructor', 'paramwise_cfg'}),
    ('optim_wrapper.optimizer', OPTIMIZERS, set()),
    ('param_scheduler', PARAM_SCHEDULERS, {'convert_to_iter_based'}),
    ('param_scheduler.*', PARAM_SCHEDULERS, {'convert_to_iter_based'}),
    ('train_cfg', LOOPS, {'by_epoch'}),
    ('val_cfg', LOOPS, set()),
    ('test_cfg', LOOPS, set()),
    *(
        (f'{split}_{place}', registry, set())
        for split in ('train', 'val', 'test')
        for place, registry in (
            ('dataloader.dataset', DATASETS),
            ('dataloader.dataset.dataset', DATASETS),
            ('dataloader.sampler', DATA_SAMPLERS),
            ('dataloader.dataset.pipeline.*', TRANSFORMS),
            ('dataloader.dataset.dataset.pipeline.*', TRANSFORMS),
            ('evaluator', METRICS),
            ('evaluator.*', METRICS),
        )
    ),
    ('model', MODELS, set()),
    ('model.data_preprocessor', MODELS, set()),
    ('model.backbone', MODELS, set()),
    ('model.neck', MODELS, set()),
    ('model.head', MODELS, set()),
    ('model.head.loss', MODELS, set()),
    ('model_wrapper_cfg', MODEL_WRAPPERS, set()),
    ('visualizer', VISUALIZERS, set()),
    ('visualizer.vis_backends.*', VISBACKENDS, set()),
)
# What the runner takes where a config names no type.
DEFAULT_TYPES = {
    'optim_wrapper': 'OptimWrapper',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
}
# The hooks that mmengine registers by itself.
DEFAULT_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)


def check_arguments(cfg: Config) -> None:
    """Refuse types that do not exist, arguments and settings nothing reads.

    What a class accepts is read from its signature; where it passes arguments
    on to something that is not known here, it is left to the class itself.

    Args:
        cfg (Config): A whole config.

    Raises:
        KeyError: Naming each with its place, and the nearest known name.
    """
    complaints = [
        *unread(cfg),
        *_hooks_without_type(cfg),
        *_unknown_types(cfg),
        *_lost_gradients(cfg),
    ]
    if complaints:
        raise KeyError(f'{cfg.filename}: {"; ".join(complaints)}.')


def unread(cfg: Config) -> list[str]:
    """What nothing reads in a config, or in a part of one.

    Args:
        cfg (Config): With ``default_scope``, if it is not mmengine's.

    Returns:
        list[str]: Half a sentence for each argument or setting.
    """
    return [
        f'{place} has no {key!r}{nearest(key, known)}'
        for place, key, known in (
            *_unread_arguments(cfg),
            *_unread_runner_arguments(cfg),
            *_unread_settings(cfg),
            *_unread_optimizer_settings(cfg),
        )
    ]


def nearest(key: str, known: Iterable[str]) -> str:
    """The known name that a misspelt one was probably meant to be."""
    near = difflib.get_close_matches(key, list(known), 1)
    return f' (did you mean {near[0]!r}?)' if near else ''


Unread = Iterator[tuple[str, str, set[str]]]  # place, key, known keys


def _unread_arguments(cfg: Config) -> Unread:
    for pattern, registry, extra in PLACES:
        for place, part in _find(cfg, pattern):
            kind = part.get('type', _default(place, part))
            if '_scope_' in part and isinstance(kind, str):
                kind = f'{part["_scope_"]}.{kind}'
            cls = _find_class(kind, cfg, registry)
            known = None if cls is None else accepted_arguments(cls)
            if known is not None:
                known |= extra
                for key in sorted(set(part) - known - {'type', '_scope_'}):
                    yield f'{place} ({cls.__name__})', key, known


def _unread_runner_arguments(cfg: Config) -> Unread:
    """Those that the runner hands to functions of its own or of torch."""
    # The others are of mmengine's build_dataloader, launchers and optimizers.
    loader = argument_names(DataLoader) | {'num_batch_per_epoch'}
    dist = (
        argument_names(init_dist)
        | argument_names(init_process_group)
        | {'port'}
    )
    clip = {
        'type',
        *argument_names(clip_grad_norm_),
        *argument_names(clip_grad_value_),
    }
    for place, known in (
        ('train_dataloader', loader),
        ('val_dataloader', loader),
        ('test_dataloader', loader),
        ('env_cfg.dist_cfg', dist),
        ('env_cfg.mp_cfg', argument_names(set_multi_processing)),
        ('optim_wrapper.clip_grad', clip),
        ('randomness', argument_names(Runner.set_randomness)),
    ):
        for _, part in _find(cfg, place):
            for key in sorted(set(part) - known):
                yield place, key, known


def _unread_settings(cfg: Config) -> Unread:
    """Those of which the runner asks for single keys."""
    for place, reader in (
        ('env_cfg', Runner.setup_env),
        ('auto_scale_lr', Runner.scale_lr),
    ):
        for _, part in _find(cfg, place):
            yield from _unnamed(place, part, strings_in([reader]))


def _unread_optimizer_settings(cfg: Config) -> Unread:
    wrapper = cfg.get('optim_wrapper') or {}
    constructor = _find_class(
        wrapper.get('constructor', 'DefaultOptimWrapperConstructor'),
        cfg,
        OPTIM_WRAPPER_CONSTRUCTORS,
    )
    optimizer = _find_class(
        (wrapper.get('optimizer') or {}).get('type'), cfg, OPTIMIZERS
    )
    if constructor is None:
        return
    named = strings_in(constructor.__mro__[:-1])
    settings = 'optim_wrapper.paramwise_cfg'
    for place, part in _find(cfg, settings):
        yield from _unnamed(place, part, named)
    # Others than the multipliers go into the optimizer's groups, for itself
    # or for hooks to read; so only what looks like a multiplier is wrong.
    multipliers = {'lr_mult', 'decay_mult'}
    group = optimizer and accepted_arguments(optimizer)
    if scope_of(cfg) not in CLASSIFYING:
        return  # mmpose's own configs of ViTPose say decay_multi
    for place, part in _find(cfg, f'{settings}.custom_keys.*'):
        for key in sorted(set(part) - multipliers - (group or set())):
            if difflib.get_close_matches(key, multipliers, 1, 0.8):
                yield place, key, multipliers


def _unnamed(place: str, part: dict, named: set[str]) -> Unread:
    if named:  # else the code is not to be had
        for key in sorted(set(part) - named):
            yield place, key, named


def _hooks_without_type(cfg: Config) -> Iterator[str]:
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, dict) and 'type' not in hook:
            yield (
                f'default_hooks.{name} has no type, which a hook needs that '
                f'no base config describes{nearest(name, DEFAULT_HOOKS)}'
            )


def _unknown_types(cfg: Config) -> Iterator[str]:
    """Types of no registry, which the builder would name late, or not name.

    Of those that are no hooks, only what is very near a known one: others may
    be of a package that is not installed, and mmengine says so.
    """
    for pattern, registry, _ in PLACES:
        known = set(registry.module_dict).union(
            *(child.module_dict for child in registry.children.values())
        )
        for place, part in _find(cfg, pattern):
            kind = part.get('type')
            if not isinstance(kind, str) or _look_up(kind, cfg, registry):
                continue
            near = difflib.get_close_matches(kind, known, 1, 0.85)
            if registry is HOOKS or (near and kind not in known):
                name = kind.rpartition('.')[2]
                what = registry.name.replace('_', ' ')
                yield f'{place}: there is no {what} {kind!r}' + nearest(
                    name, known
                )


def _lost_gradients(cfg: Config) -> Iterator[str]:
    if cfg.get('activation_checkpointing'):
        for place, tower in (
            *_find(cfg, 'model.backbone'),
            *_find(cfg, 'model.backbone.module'),  # with LoRA around it
        ):
            cls = _find_class(tower.get('type'), cfg, MODELS)
            if cls and 'with_cp' in (accepted_arguments(cls) or ()):
                yield (
                    "mmengine's activation_checkpointing drops the gradients "
                    'of blocks that follow frozen ones, and does nothing for '
                    f'lists of blocks: set {place}.with_cp=True instead'
                )


def _find(cfg: Any, pattern: str) -> Iterator[tuple[str, dict]]:
    """The dicts of a config at a dotted place, where * is any key."""
    found = [('', cfg)]
    for key in pattern.split('.'):
        found = [
            (f'{place}.{name}'.lstrip('.'), value)
            for place, part in found
            for name, value in _children(part)
            if key in ('*', name)
        ]
    return ((place, part) for place, part in found if isinstance(part, dict))


def _children(part: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(part, dict | Config):
        return part.items()
    if isinstance(part, list | tuple):
        return ((str(index), value) for index, value in enumerate(part))
    return ()


def _default(place: str, part: dict) -> str | None:
    if place == 'train_cfg':
        if 'by_epoch' not in part:
            return None
        loop = 'Epoch' if part['by_epoch'] else 'Iter'
        return f'{loop}BasedTrainLoop'
    if 'constructor' in part and 'optimizer' not in part:
        return None  # of several optimizers
    return DEFAULT_TYPES.get(place)


def _find_class(kind: Any, cfg: Config, registry: Registry) -> Any:
    """What a type stands for; None if that is unknown here."""
    found = _look_up(kind, cfg, registry) if isinstance(kind, str) else kind
    return found if inspect.isclass(found) else None


def _look_up(kind: str, cfg: Config, registry: Registry) -> Any:
    scope = cfg.get('default_scope', 'mmengine')
    with registry.switch_scope_and_registry(scope) as scoped:
        return scoped.get(kind)
