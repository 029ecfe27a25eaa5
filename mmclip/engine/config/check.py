"""A search for wrong config keys and values before anything is built.

mmengine ignores some of them, and reports others only when it builds that
part, which may be after the first epoch.
"""

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Union, get_args, get_origin

from mmengine import registry
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    TestLoop,
    ValLoop,
)
from torch import Tensor
from torch.utils.data import DataLoader

from mmclip.engine.config.scopes import CLASSIFYING, scope_of
from mmclip.errors import ConfigError, did_you_mean

ROOTS = [
    r for r in vars(registry).values() if isinstance(r, registry.Registry)
]
# Runner's arguments, and what else mmengine's Runner or mmpretrain reads.
RUNNER_KEYS = set(inspect.signature(Runner).parameters) | {
    'activation_checkpointing',
    'auto_scale_lr',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'strategy',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
    'vis_backends',
}
ALIKE = 0.85  # one wrong letter in names of at least six
SWAPPED = 0.8  # two swapped letters in names of at least five
# The hooks that mmengine registers by itself.
RUNNER_HOOKS = {
    'checkpoint',
    'logger',
    'param_scheduler',
    'runtime_info',
    'sampler_seed',
    'timer',
}
# Keys of dicts without a type: names, or a class's arguments.
READ: dict[str, tuple[str | type, ...]] = {
    'auto_scale_lr': ('base_batch_size', 'enable'),
    'env_cfg': ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'),
    'optim_wrapper': (OptimWrapper,),
    'optim_wrapper.paramwise_cfg': (
        'bias_decay_mult',
        'bias_lr_mult',
        'bypass_duplicate',
        'custom_keys',
        'dcn_offset_lr_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'layer_decay_rate',
        'norm_decay_mult',
    ),
    'train_cfg': (EpochBasedTrainLoop, IterBasedTrainLoop),
    'val_cfg': (ValLoop,),
    'test_cfg': (TestLoop,),
    'train_dataloader': (DataLoader,),
    'val_dataloader': (DataLoader,),
    'test_dataloader': (DataLoader,),
}
# The least values of whole numbers, in the same dicts.
LEAST = {
    'accumulative_counts': 1,
    'batch_size': 1,
    'max_epochs': 1,
    'max_iters': 1,
    'num_workers': 0,
    'val_interval': 1,
}
DICT, NUMBER, SWITCH = 'a dict', 'a number', 'True or False'
# What annotations of numbers may name if text is wrong.
NOT_TEXT = {float, int, list, tuple, Sequence, types.NoneType, Tensor}
Readers = dict[str, list[inspect.Parameter]]
CUSTOM_KEYS = re.compile(r'optim_wrapper\.paramwise_cfg\.custom_keys\.[^.]+')
# Keys that builders remove from any dict before they build.
ALWAYS = {'by_epoch', 'constructor', 'paramwise_cfg', 'priority', 'type'}


def check_keys(cfg: Config, options: Iterable[str] = ()) -> None:
    """Refuse wrong keys and values before mmengine ignores or trips over them.

    A key is misspelt if nothing is known to read it and its name is very
    close to one that is read; others are left to mmengine. Top-level keys
    that the config itself reads are variables. Of values, only some numbers
    and the types that mmengine's Runner takes are checked.

    Args:
        cfg (Config): A whole config, or some of its top-level keys.
        options (Iterable[str]): Dotted keys that were set after the config
            had been read and its variables used.

    Raises:
        ConfigError: If there are any; the message names each key with its
            place and the closest known name.
    """
    options = {option.split('.')[0] for option in options}
    complaints = [*_late_options(options, cfg.text), *_top_level(cfg, options)]
    wrong = [*_wrong_parts(cfg)]
    if not wrong:
        complaints += _hooks(cfg)
        for key in RUNNER_KEYS.intersection(cfg):
            complaints += _below(cfg[key], key, cfg)
    complaints += wrong
    if complaints:
        where = f'{cfg.filename}: ' if cfg.filename else ''
        raise ConfigError(f'{where}{"; ".join(dict.fromkeys(complaints))}.')


def _late_options(options: Iterable[str], text: str) -> Iterator[str]:
    for key in sorted(options):
        if key not in RUNNER_KEYS:
            is_variable = re.search(rf'\b{re.escape(key)}\b', text)
            hint = '' if is_variable else did_you_mean(key, RUNNER_KEYS)
            hint = hint or (
                '; if it is a variable of the config, set the values computed '
                'from it instead'
            )
            yield f'nothing reads the option {key!r}{hint}'


def _top_level(cfg: Config, options: set[str]) -> Iterator[str]:
    for key in sorted(set(cfg) - RUNNER_KEYS - options):
        # train_pipeline and dataloader are common names of variables.
        known = {
            name
            for name in RUNNER_KEYS - {'tta_pipeline'}
            if not name.endswith(f'_{key}')
        }
        # A mention other than an assignment.
        use = rf'\b{re.escape(key)}\b(?![\'"]?\s*[=:](?!=))'
        hint = did_you_mean(key, known, SWAPPED)
        if hint and not re.search(use, cfg.text):
            yield f'nothing reads the top-level key {key!r}{hint}'


def _wrong_parts(cfg: Config) -> Iterator[str]:
    """Compare the values of top-level keys with what Runner takes."""
    for key, parameter in inspect.signature(Runner).parameters.items():
        if key in ('cfg', 'default_scope', 'log_level') or key not in cfg:
            continue
        kinds = _kinds(parameter.annotation)
        if not isinstance(parameter.default, dict):
            kinds.add(types.NoneType)
        if list in kinds:
            kinds.add(tuple)
        if not isinstance(cfg[key], tuple(kinds)):
            names = {dict, list, str, bool} & kinds
            wanted = ' or '.join(sorted(kind.__name__ for kind in names))
            yield f'{key} is {cfg[key]!r}, but must be a {wanted}'


def _hooks(cfg: Config) -> Iterator[str]:
    hooks = cfg.get('default_hooks') or {}
    known = RUNNER_HOOKS.union(name for name in hooks if hooks[name])
    for name, hook in hooks.items():
        hint = did_you_mean(name, known - {name}, ALIKE)
        if hook is None and name not in known and hint:
            yield f'default_hooks.{name} is None, but does not exist{hint}'
        elif hook and name not in RUNNER_HOOKS and 'type' not in hook:
            yield f'default_hooks.{name} has no type{hint}'


def _below(part: Any, place: str, cfg: Config) -> Iterator[str]:
    """Yield complaints about the keys in a part of a config, recursively."""
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(part, dict):
        children = part.items()
        name, known = _readers(part, place, cfg)
        for key, value in children:
            if why := _why_wrong(part, key, place, known):
                yield f'{name}: {key} is {value!r}, but must be {why}'
        if place.endswith('_evaluator') and 'Accuracy)' in name:
            yield from _few_classes(part, place, cfg)
        for key in set(part) - set(known) - ALWAYS:
            if hint := did_you_mean(key, known, ALIKE):
                yield f'{name} has no {key!r}{hint}'
        if (
            cfg.get('activation_checkpointing')
            and place in ('model.backbone', 'model.backbone.module')
            and 'with_cp' in known
        ):
            yield (
                "mmengine's activation_checkpointing drops the gradients of "
                'blocks that follow frozen ones, and does nothing for lists '
                f'of blocks: set {place}.with_cp=True instead'
            )
    elif isinstance(part, list | tuple):
        children = enumerate(part)
    for key, child in children:
        yield from _below(child, f'{place}.{key}', cfg)


def _why_wrong(part: dict, key: str, place: str, read: Readers) -> str:
    """Return what a number, switch or dict must be; '' if it may be so."""
    value, wanted = part[key], {*map(_kind_of, read.get(key, ()))}
    if isinstance(value, str) and wanted in ({NUMBER}, {SWITCH}):
        return wanted.pop()
    if isinstance(value, float | int) and wanted == {DICT}:
        return DICT
    least = LEAST.get(key) if place in READ else None
    if least is None or 'batch_sampler' in part:
        return ''
    is_right = (
        isinstance(value, float | int)
        and value >= least
        and float(value).is_integer()
    )
    return '' if is_right else f'a whole number from {least}'


def _kind_of(parameter: inspect.Parameter) -> str:
    """Return the kind that a parameter takes if it is clear; otherwise ''."""
    hint = parameter.annotation
    if isinstance(hint, str):  # with annotations from __future__
        hint = {'bool': bool, 'float': float, 'int': int}.get(hint, object)
    elif hint is parameter.empty:
        hint = type(parameter.default)
    kinds = _kinds(hint)
    if kinds == {bool}:
        return SWITCH
    if dict in kinds and kinds <= {dict, types.NoneType}:
        return DICT
    return NUMBER if kinds <= NOT_TEXT and kinds & {float, int} else ''


def _kinds(hint: Any) -> set[Any]:
    """Return the classes in a type hint."""
    is_union = get_origin(hint) in (Union, types.UnionType)
    return {
        get_origin(h) or h for h in (get_args(hint) if is_union else [hint])
    }


def _few_classes(part: dict, place: str, cfg: Config) -> Iterator[str]:
    """Yield a complaint if a metric counts more classes than there are."""
    head = cfg.get('model', {}).get('head')
    classes = head.get('num_classes') if isinstance(head, dict) else None
    topk = part.get('topk')
    most = max(topk) if isinstance(topk, list | tuple) else topk
    if (
        isinstance(most, int)
        and isinstance(classes, int)
        and 0 < classes < most
    ):
        yield (
            f'{place}.topk has {most}, but model.head.num_classes is '
            f'{classes}: leave it out'
        )


def _readers(part: dict, place: str, cfg: Config) -> tuple[str, Readers]:
    """Return a name for a dict, and what is known to read each key."""
    if 'type' in part:
        scope = part.get('_scope_') or cfg.get('default_scope') or 'mmengine'
        classes = _classes(part['type'], scope)
        names = '/'.join(sorted({cls.__name__ for cls in classes}))
        return f'{place} ({names})', _arguments(classes)
    # mmpose's ViTPose configs use decay_multi.
    if CUSTOM_KEYS.fullmatch(place) and scope_of(cfg) in CLASSIFYING:
        return place, {'decay_mult': [], 'lr_mult': []}
    read = READ.get(place, ())
    keys: Readers = {key: [] for key in read if isinstance(key, str)}
    return place, keys | _arguments(c for c in read if inspect.isclass(c))


@cache
def _classes(kind: Any, scope: str) -> tuple[type, ...]:
    """Return the classes that a type may mean, at most one per registry."""
    if not isinstance(kind, str):
        return (kind,) if inspect.isclass(kind) else ()
    with registry.MODELS.switch_scope_and_registry(scope):  # imports it
        found = [root.children.get(scope, root).get(kind) for root in ROOTS]
    return tuple(cls for cls in dict.fromkeys(found) if inspect.isclass(cls))


def _arguments(classes: Iterable[type]) -> Readers:
    """Return the arguments of classes and of their bases."""
    found: Readers = {}
    for cls in classes:
        for owner in cls.__mro__:
            init = vars(owner).get('__init__')
            if inspect.isfunction(init):
                for name, one in inspect.signature(init).parameters.items():
                    found.setdefault(name, []).append(one)
    return found
