"""Building of runners, with clear errors for wrong configs."""

import contextlib
import inspect
import re
import traceback
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import RUNNERS, build_functions
from mmengine.runner import Runner

from mmclip.errors import ConfigError, DataError

# Python's messages for a call with wrong arguments.
WRONG_CALL = re.compile(
    r'unexpected keyword argument|missing \d+ required|'
    r'multiple values for (keyword )?argument'
)
# inspect.signature's, which mmengine calls on an optimizer.
NO_OPTIMIZER = 'None is not a callable object'
NOT_REGISTERED = ' registry. Please check'  # mmengine's


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, mmengine's or another.

    Raises:
        ConfigError: See :func:`naming_the_config`.
    """
    with naming_the_config(cfg):
        build = RUNNERS.build if 'runner_type' in cfg else Runner.from_cfg
        return build(cfg)


@contextlib.contextmanager
def naming_the_config(cfg: Config) -> Iterator[None]:
    """Turn mmengine's exceptions for a wrong config into one sentence.

    Raises:
        ConfigError: If a type is not registered, or a part of the config has
            wrong arguments or refuses their values. Other exceptions pass
            unchanged, since the config does not cause them.
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
    """Tell whether a registry or constructor raises it on purpose."""
    if isinstance(error, AssertionError | ValueError):
        return bool(message)
    return bool(WRONG_CALL.search(message) or NOT_REGISTERED in message)
