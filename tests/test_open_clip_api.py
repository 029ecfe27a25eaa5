"""All that mmclip uses of open_clip, which its next version must still have.

Some of it is private there. The list is complete: the package is searched.
"""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower

import mmclip
from mmclip.checkpoint import CheckpointError
from mmclip.checkpoint.towers.inspect import inspect_weights
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.checkpoint.towers.open_clip_backbone import NATIVE
from mmclip.checkpoint.towers.open_clip_tables import (
    _pretrained,
    default_preprocess,
)
from mmclip.untrusted import model_configs
from tests.conftest import TinyModel

ROOT = Path(mmclip.__file__).parents[1]
USED = {
    'open_clip': {
        '__version__',
        'create_model',
        'get_model_config',
        'get_tokenizer',
        'list_models',
        'list_pretrained_tags_by_model',
        # text towers, class names and the demo's pre-training
        'CLIP',
        'ClipLoss',
        'IMAGENET_CLASSNAMES',
        'OPENAI_IMAGENET_TEMPLATES',
        'SIMPLE_IMAGENET_TEMPLATES',
        'SimpleTokenizer',
        'build_zero_shot_classifier',
        # measured against it
        'AugmentationCfg',
        'image_transform',
    },
    'open_clip.convert': {'convert_state_dict'},
    'open_clip.model': {
        'CLIPVisionCfg',
        '_build_vision_tower',
        'convert_to_custom_text_state_dict',
    },
    'open_clip.pretrained': {'download_pretrained'},
    'open_clip.transformer': {'AttentionalPooler'},
}
# In open_clip/pretrained.py, which is read without the package.
TABLE = (
    'OPENAI_DATASET_MEAN',
    'OPENAI_DATASET_STD',
    'get_pretrained_cfg',
    'list_pretrained_tags_by_model',
)


def names_in(path):
    """What a file imports from open_clip, and takes as its attributes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.ImportFrom):
            module = '' if node.level else str(node.module)
            if module.split('.')[0] == 'open_clip':
                found |= {(module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute):
            base = ast.unparse(node.value)
            if base == 'open_clip' or base.startswith('open_clip.'):
                found.add((base, node.attr))
    # The result of a call is not a module.
    return {(base, name) for base, name in found if '(' not in base}


def test_the_list_is_complete():
    found = set()
    for folder in ('mmclip', 'tools'):
        for path in (ROOT / folder).rglob('*.py'):
            if '.mim' not in path.parts:
                found |= names_in(path)
    assert found == {
        (module, name) for module in USED for name in USED[module]
    }


@pytest.mark.parametrize(
    ('module', 'name'), [(m, n) for m in USED for n in sorted(USED[m])]
)
def test_open_clip_has_it(module, name):
    if not hasattr(importlib.import_module(module), name):
        pytest.fail(
            f'open_clip {open_clip.__version__} has no {module}.{name}, which '
            f'mmclip uses; search mmclip/ for it, and see where it went.'
        )


@pytest.mark.parametrize('name', TABLE)
def test_its_table_of_weights_has_it(name):
    if not hasattr(_pretrained(), name):
        pytest.fail(
            f'open_clip {open_clip.__version__}: pretrained.py has no {name}, '
            'which mmclip/checkpoint/towers/open_clip_tables.py uses.'
        )


def test_towers_are_built_with_the_same_arguments():
    parameters = inspect.signature(_build_vision_tower).parameters
    assert {'embed_dim', 'vision_cfg', 'quick_gelu'} <= parameters.keys()


def test_a_model_config_has_the_fields_and_defaults_that_we_know():
    fields = {f.name: f.default for f in dataclasses.fields(CLIPVisionCfg)}
    assert fields.items() >= NATIVE.items()
    known = model_configs.VISION.keys() | {'timm_model_kwargs'}
    assert known - {'image_seq_len', 'timm_model_kwargs'} <= fields.keys()
    assert fields.keys() <= known


def test_the_default_preprocessing_is_the_same():
    from open_clip.transform import PreprocessCfg

    theirs = PreprocessCfg()
    for key, value in default_preprocess().items():
        assert getattr(theirs, key) == value, key


# What open_clip 4.2.0.dev0 also lists: without an image tower, with one that
# is not CLIP's, and with arguments for timm.
NEW = {
    'CLAP-HTSAT-tiny': dict(embed_dim=512, audio_cfg={}, text_cfg={}),
    'naflexgenlip_test': dict(
        embed_dim=64,
        genlip_cfg={},
        text_cfg={},
        vision_cfg=dict(image_size=32, patch_size=8, in_chans=3),
    ),
    'moderntext-naflex_ViT-B-32': dict(
        embed_dim=512,
        text_cfg={},
        vision_cfg=dict(
            image_size=32,
            timm_model_name='naflexvit_base_patch16_map',
            timm_model_kwargs=dict(patch_size=32),
        ),
    ),
}


def test_its_new_kinds_of_models_are_passed_over(monkeypatch, tmp_path):
    """Where a file is compared with all that open_clip has."""
    for name, config in NEW.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
    monkeypatch.setattr(
        open_clip,
        'list_models',
        lambda: [*open_clip.factory._MODEL_CONFIGS],
    )
    tiny = TinyModel.create(tmp_path / 'tiny.json')
    torch.save(tiny.model.state_dict(), tmp_path / 'tiny.pt')
    found = inspect_weights(tmp_path / 'tiny.pt')
    assert found.problem is None
    assert not NEW.keys() & set(found.names)
    model_configs._text_models_of_open_clip.cache_clear()
    assert None in model_configs._text_models_of_open_clip()


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('CLAP-HTSAT-tiny', 'has no image tower'),
        ('naflexgenlip_test', "does not understand 'in_chans'"),
        ('moderntext-naflex_ViT-B-32', "understand 'timm_model_kwargs'"),
    ],
)
def test_its_new_kinds_of_models_are_refused(monkeypatch, name, message):
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, NEW[name])
    with pytest.raises(CheckpointError, match=message):
        find_tower(name, None)
