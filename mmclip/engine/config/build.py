"""Runners of configs, and what is wrong with a config that cannot be built."""

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import RUNNERS, build_functions
from mmengine.runner import Runner

from mmclip.errors import ConfigError, DataError

# Of Python, for a call with other arguments than a function takes.
WRONG_CALL = re.compile(
    r'unexpected keyword argument|missing \d+ required|'
    r'multiple values for (keyword )?argument'
)
# Of inspect.signature, by which mmengine asks what an optimizer takes.
NO_OPTIMIZER = 'None is not a callable object'
NOT_REGISTERED = ' registry. Please check'  # of mmengine


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, of mmengine's class or another.

    Raises:
        ConfigError: See :func:`naming_the_config`.
    """
    with naming_the_config(cfg):
        build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
        return build(cfg)


@contextlib.contextmanager
def naming_the_config(cfg: Config) -> Iterator[None]:
    """Turn what mmengine raises for a wrong config into a sentence.

    Raises:
        ConfigError: If a type is not registered, or a part of the config does
            not take its arguments or refuses their values. Other exceptions
            are not of the config's making, and pass.
    """
    try:
        yield
    except (ConfigError, DataError):
        raise
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        classes = [
            frame.f_locals.get('obj_cls')
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename == build_functions.__file__
        ]
        message = str(error.args[0]) if error.args else ''
        where = f'{cfg.filename}: ' if cfg.filename else ''
        if message == NO_OPTIMIZER:
            kind = cfg.optim_wrapper.optimizer.type
            raise ConfigError(
                f'{where}{kind} is not in the registry of optimizers.'
            ) from error
        if not classes or not _is_refusal(error, message):
            raise
        cls = classes[-1]
        name = f'{cls.__name__}: ' if inspect.isclass(cls) else ''
        what = message.partition('. Please check')[0].rstrip('.')
        raise ConfigError(f'{where}{name}{what}.') from error


def _is_refusal(error: Exception, message: str) -> bool:
    """Whether it is what registries and constructors raise on purpose."""
    if isinstance(error, AssertionError | ValueError):
        return bool(message)
    return bool(WRONG_CALL.search(message) or NOT_REGISTERED in message)
