"""open_clip's model configs and pretrained tags, without its models.

Importing open_clip takes seconds, for torchvision, timm and transformers. Its
model configs are JSON files, and its tags stand in a module that needs none
of these.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

from mmclip.untrusted.model_configs import VISION


def model_config(name: str) -> dict[str, Any] | None:
    """Return the config of an open_clip model, None if there is no such name.

    Args:
        name (str): One that open_clip ships, or that was added to it.
    """
    # Once imported, it knows what a program has added or changed.
    if 'open_clip' not in sys.modules and name in model_names():
        file = _folder() / 'model_configs' / f'{name}.json'
        return json.loads(file.read_text('utf-8'))
    import open_clip

    return open_clip.get_model_config(name)


@cache
def model_names() -> frozenset[str]:
    """Return the names of the models that open_clip ships."""
    files = (_folder() / 'model_configs').glob('*.json')
    return frozenset(file.stem for file in files)


def image_models() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and configs of open_clip's CLIP models.

    Its version 4 also has models without image towers, or of other kinds.
    """
    import open_clip

    for name in open_clip.list_models():
        config = open_clip.get_model_config(name) or {}
        vision_cfg = config.get('vision_cfg')
        if vision_cfg is not None and vision_cfg.keys() <= VISION.keys():
            yield name, config


def default_preprocess() -> dict[str, Any]:
    """Return open_clip's preprocessing where a model does not state another.

    Those are the defaults of its ``PreprocessCfg``.
    """
    return dict(
        mean=_pretrained().OPENAI_DATASET_MEAN,
        std=_pretrained().OPENAI_DATASET_STD,
        interpolation='bicubic',
        resize_mode='shortest',
    )


def pretrained_tags(name: str) -> dict[str, dict[str, Any]]:
    """Return the pretrained tags of a model, with their settings."""
    table = _pretrained()
    tags = table.list_pretrained_tags_by_model(name)
    return {tag: table.get_pretrained_cfg(name, tag) for tag in tags}


def _folder() -> Path:
    found = find_spec('open_clip')  # does not import it
    assert found is not None and found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


@cache
def _pretrained() -> Any:
    """Import ``open_clip/pretrained.py`` from a package that is only a folder.

    So ``open_clip/__init__.py`` is not run.
    """
    spec = ModuleSpec('_open_clip', loader=None, is_package=True)
    spec.submodule_search_locations = [str(_folder())]
    sys.modules[spec.name] = module_from_spec(spec)
    return importlib.import_module(f'{spec.name}.pretrained')
