"""The data sets that interpolated weights are tested on."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction

from mmclip.engine.config.check import check_keys
from mmclip.engine.config.load import complete_dataloaders
from mmclip.errors import ArgumentError, ConfigError
from mmclip.evaluation.config import load_config_with

CLEAN = 'clean'  # the config's own
NEEDED = ('test_dataloader', 'test_evaluator')


def data_sets(
    cfg: Config, wanted: Sequence[Sequence[str]]
) -> dict[str, tuple[dict[str, Any], Any]]:
    """Collect the dataloader and evaluator configs of each data set.

    Args:
        cfg (Config): A config with a test set, which is called clean.
        wanted (Sequence): For each further data set its name, followed by a
            config whose test set it is, or by ``KEY=VALUE`` that change the
            config's own.

    Raises:
        ArgumentError: If neither follows a name.
        ConfigError: If a key does not exist.
    """
    sets = {CLEAN: (cfg.test_dataloader, cfg.test_evaluator)}
    for name, *said in wanted:
        argument = f'--eval {" ".join([name, *said])}'
        if len(said) == 1 and Path(said[0]).suffix in ('.py', '.json', '.yml'):
            other = load_config_with(NEEDED, said[0])
            complete_dataloaders(other, pin_memory=torch.cuda.is_available())
            sets[name] = (other.test_dataloader, other.test_evaluator)
            continue
        if not said or not all('=' in pair for pair in said):
            raise ArgumentError(
                f'{argument}: the name must be followed by a config file, or '
                'by one or more KEY=VALUE.'
            )
        try:
            loader = _changed_loader(cfg, said, name)
        except ConfigError as error:
            raise ConfigError(f'{argument}: {error}') from None
        sets[name] = (loader, cfg.test_evaluator)
    return sets


def _changed_loader(
    cfg: Config, said: Sequence[str], name: str
) -> dict[str, Any]:
    """Return the config's test_dataloader with changes by KEY=VALUE.

    Raises:
        ConfigError: If a key does not exist or is misspelt.
    """
    pairs = (pair.split('=', 1) for pair in said)
    options = {
        f'test_dataloader.{key}': DictAction._parse_iterable(value)
        for key, value in pairs
    }
    loader = copy.deepcopy(cfg.test_dataloader)
    if kind := options.get('test_dataloader.dataset.type'):
        _leave_out_foreign(loader.dataset, kind, name)
    changed = Config(
        dict(
            default_scope=cfg.get('default_scope', 'mmengine'),
            test_dataloader=loader,
        )
    )
    try:
        changed.merge_from_dict(options)
    except (KeyError, TypeError) as error:  # no such index, no such dict
        raise ConfigError(error.args[0]) from None
    check_keys(changed)
    return changed.test_dataloader


def _leave_out_foreign(dataset: dict[str, Any], kind: str, name: str) -> None:
    """Remove, with a note, settings that a data set of another type lacks.

    ImageNet's ``split``, for example, means nothing to its shifts.
    """
    kept = ('type', 'data_root', 'pipeline')
    foreign = [key for key in dataset if key not in kept]
    if kind == dataset['type'] or not foreign:
        return
    print(
        f'note: --eval {name}: {kind} takes only pipeline and data_root from '
        f"the config's {dataset['type']}, not {', '.join(foreign)}."
    )
    for key in foreign:
        del dataset[key]
