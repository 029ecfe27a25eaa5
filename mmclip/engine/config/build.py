"""Building of runners, with clear errors for wrong configs."""

import contextlib
import dis
import itertools
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import (
    OPTIMIZERS,
    RUNNERS,
    Registry,
    build_functions,
)
from mmengine.runner import Runner
from torch import nn

from mmclip.errors import (
    EXPECTED,
    ArgumentError,
    CheckpointError,
    ConfigError,
    did_you_mean,
)
from mmclip.models.loading import INIT_CFG, is_unloaded, loaded_by
from mmclip.models.vit import VisionTransformer

# The methods of mmengine's runners that build a part of a config, and its
# key. What other methods raise is not the config's fault.
BUILDERS = {
    '_init_model_weights': 'model',
    'build_dataloader': '{split}_dataloader',
    'build_evaluator': '{split}_evaluator',
    'build_log_processor': 'log_processor',
    'build_logger': 'log_level',
    'build_model': 'model',
    'build_optim_wrapper': 'optim_wrapper',
    'build_param_scheduler': 'param_scheduler',
    'build_test_loop': 'test_cfg',
    'build_train_loop': 'train_cfg',
    'build_val_loop': 'val_cfg',
    'build_visualizer': 'visualizer',
    'from_cfg': '',
    'register_custom_hooks': 'custom_hooks',
    'register_default_hooks': 'default_hooks',
    'scale_lr': 'auto_scale_lr',
    'set_randomness': 'randomness',
    'setup_env': 'env_cfg',
    'wrap_model': 'model_wrapper_cfg',
}
# Python's messages for a call with wrong arguments.
WRONG_CALL = re.compile(
    r'unexpected keyword argument|missing \d+ required|'
    r'multiple values for (keyword )?argument'
)
# inspect.signature's, which mmengine calls on an optimizer.
NO_OPTIMIZER = 'None is not a callable object'
NOT_REGISTERED = ' registry. Please check'  # mmengine's
LIBRARIES = {
    'mmclip',
    'mmcv',
    'mmdet',
    'mmengine',
    'mmpretrain',
    'mmseg',
    'numpy',
    'torch',
}
RAISE = bytes([dis.opmap['RAISE_VARARGS']])
LONG = 400  # of messages; mmengine's may end in half a config


class LoggedRunner(Runner):
    """mmengine's runner, whose log file has at least INFO.

    Its ``log_level`` is that of the screen, so ``'WARNING'`` makes a short
    one. Of a library's old ways, which a user cannot change, only the file
    tells. Weights that ``init_cfg`` loads are not drawn first.
    """

    def build_logger(
        self,
        log_level: int | str = 'INFO',
        log_file: str | None = None,
        **kwargs: Any,
    ) -> MMLogger:
        """Build the logger before anything is logged."""
        logger = super().build_logger(log_level, log_file, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.setLevel(min(handler.level, logging.INFO))
            else:
                handler.addFilter(_is_for_users)
        return logger

    def build_model(self, model: Any) -> nn.Module:
        """Build the model, whose ``init_weights`` is called before its use."""
        with loaded_by(INIT_CFG):
            return super().build_model(model)

    def load_or_resume(self) -> None:
        """Load a checkpoint, if there is one.

        Raises:
            CheckpointError: If a backbone's weights come neither from it nor
                from ``init_weights``, which only ``train`` calls.
        """
        super().load_or_resume()
        for name, module in self.model.named_modules():
            if isinstance(module, VisionTransformer) and is_unloaded(
                module.layers
            ):
                raise CheckpointError(
                    f'{name or "the model"} has no weights yet: give '
                    'load_from, or call runner.model.init_weights() first.'
                )


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, :class:`LoggedRunner` or another.

    Raises:
        ConfigError: See :func:`naming_the_config`.
    """
    with naming_the_config(cfg):
        build = (
            RUNNERS.build if 'runner_type' in cfg else LoggedRunner.from_cfg
        )
        return build(cfg)


def _is_for_users(record: logging.LogRecord) -> bool:
    return 'will be deprecated' not in record.getMessage()


@contextlib.contextmanager
def naming_the_config(cfg: Config) -> Iterator[None]:
    """Turn exceptions while a config is built into one sentence.

    Raises:
        ConfigError: If a type is not registered, or a part of the config has
            wrong arguments or values. Other exceptions pass unchanged, since
            the config does not cause them: those of running what was built,
            and those that a class outside the libraries does not raise on
            purpose.
    """
    try:
        yield
    except Exception as error:  # of wrong values, almost any
        if isinstance(error, EXPECTED) and not isinstance(
            error, ArgumentError
        ):
            raise
        all_frames = (f for f, _ in traceback.walk_tb(error.__traceback__))
        frames = [*itertools.dropwhile(lambda f: not _builds(f), all_frames)]
        if not frames or not _is_refusal(error, frames):
            raise
        said = (cfg.filename, _place(cfg, frames))
        what = _reason(cfg, error, frames[-1])
        raise ConfigError(
            f'{": ".join(filter(None, [*said, what]))}.'
        ) from error


def _builds(frame: FrameType) -> bool:
    name = frame.f_globals.get('__name__', '')
    return name == build_functions.__name__ or (
        name.startswith('mmengine.runner') and frame.f_code.co_name in BUILDERS
    )


def _is_refusal(error: Exception, frames: list[FrameType]) -> bool:
    """Tell whether a library refuses values, or another class on purpose."""
    roots = [f.f_globals.get('__name__', '').split('.')[0] for f in frames]
    if set(roots) <= LIBRARIES | sys.stdlib_module_names:
        return True
    last = frames[-1]
    is_raised = last.f_code.co_code[last.f_lasti :].startswith(RAISE)
    return bool(WRONG_CALL.search(str(error))) or (
        isinstance(error, AssertionError | TypeError | ValueError)
        and is_raised
        and bool(str(error))
        and roots[-1] not in sys.stdlib_module_names
    )


def _place(cfg: Config, frames: list[FrameType]) -> str:
    """Return the key of the innermost part that is built, and its class."""
    split, place, part, name = 'test', '', cfg, ''
    for frame in filter(_builds, frames):
        names = frame.f_locals
        if key := BUILDERS.get(frame.f_code.co_name):
            place = key.format(split=split)
            split = place.partition('_')[0]
            part, name = cfg.get(place), ''
        elif isinstance(names.get('cfg'), Mapping):
            found = next(_search(part, place, names['cfg']), (place, part))
            place, part = found
            name = getattr(names.get('obj_cls'), '__name__', '')
    return f'{place} ({name})' if name and place else place or name


def _search(part: Any, place: str, built: Mapping) -> Iterator[tuple]:
    """Yield the places from which a dict was made, perhaps with more keys."""
    children: Any = ()
    if isinstance(part, Mapping):
        children = part.items()
        is_like_it = 'type' in part or (part and set(part) <= set(built))
        if is_like_it and all(
            built.get(key, value) == value
            for key, value in children
            if not isinstance(value, Mapping | list | tuple)
        ):
            yield place, part
    elif isinstance(part, list | tuple):
        children = enumerate(part)
    for key, child in children:
        yield from _search(child, f'{place}.{key}'.lstrip('.'), built)


def _reason(cfg: Config, error: Exception, frame: FrameType) -> str:
    """Return what is wrong, in the first line of the error."""
    message = str(error.args[0] if error.args else '').partition('\n')[0]
    if message == NO_OPTIMIZER:
        kind = cfg.optim_wrapper.optimizer.type
        near = did_you_mean(kind, _registered(OPTIMIZERS))
        return f'{kind} is not in the registry of optimizers{near}'
    if NOT_REGISTERED in message:
        near = did_you_mean(
            message.partition(' is not in ')[0],
            _registered(frame.f_locals['registry']),
        )
        return message.partition('. Please check')[0] + near
    if len(message) > LONG:
        message = message[:LONG].partition(', but got ')[0]
    if isinstance(error, AssertionError | TypeError | ValueError) and message:
        return message.rstrip('.')
    return f'{type(error).__name__}: {message}'.rstrip(' .:')


def _registered(registry: Registry) -> set[str]:
    """Return the names that types may have, those of packages with theirs."""
    root = registry._get_root_registry()
    names = {*root.module_dict, *registry.module_dict}
    for scope, child in root.children.items():
        names |= {f'{scope}.{name}' for name in child.module_dict}
    return names
