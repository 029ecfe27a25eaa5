"""What the JSON files of others may say, and what they may not choose."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmclip.checkpoint.towers.export import export_checkpoint
from mmclip.checkpoint.towers.sources import convert_folder
from mmclip.checkpoint.towers.tower import build_backbone
from mmclip.errors import CheckpointError
from mmclip.models import OpenCLIPVisionTower
from mmclip.text import OpenCLIPTextTower
from mmclip.text.whole_model import load_whole_model
from tests.conftest import save_whole_model

HUGE = 10**9
CODE = """
import pathlib
pathlib.Path(r'{witness}').touch()
from transformers import PreTrainedTokenizerFast
class Evil(PreTrainedTokenizerFast):
    pass
"""
TOKENIZER = {
    'version': '1.0',
    'added_tokens': [],
    'pre_tokenizer': {'type': 'Whitespace'},
    'model': {
        'type': 'WordLevel',
        'vocab': {'[UNK]': 0, '[PAD]': 1, 'red': 2, 'blue': 3},
        'unk_token': '[UNK]',
    },
}
TOKENIZER_CONFIG = {
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'unk_token': '[UNK]',
    'pad_token': '[PAD]',
}


@pytest.fixture
def folder(tmp_path):
    """A random model of both towers with a tokenizer of its own."""
    save_whole_model(tmp_path)
    set_in(tmp_path, 'text_cfg', hf_tokenizer_name='x/y')
    (tmp_path / 'tokenizer.json').write_text(json.dumps(TOKENIZER))
    write_tokenizer_config(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever asks for an address fails the test."""
    import huggingface_hub
    import timm.models._hub as timm_hub

    def refuse(*args, **kwargs):
        pytest.fail(f'an address was asked for: {args}')

    for module in (huggingface_hub, timm_hub):
        monkeypatch.setattr(module, 'hf_hub_download', refuse)


def config_of(folder) -> str:
    return str(folder / 'open_clip_config.json')


def load(folder):
    weights = str(folder / 'open_clip_model.safetensors')
    return load_whole_model(config_of(folder), weights)


def set_in(folder, part, **values):
    """Change values of a part of the folder's model config."""
    path = folder / 'open_clip_config.json'
    config = json.loads(path.read_text())
    model = config['model_cfg']
    target = model if part == 'model_cfg' else model.setdefault(part, {})
    target.update(values)
    path.write_text(json.dumps(config))


def write_tokenizer_config(folder, **values):
    config = json.dumps(TOKENIZER_CONFIG | values)
    (folder / 'tokenizer_config.json').write_text(config)


def test_a_folders_own_tokenizer_is_used_and_chooses_no_file(folder):
    other = folder / 'other.json'
    other.write_text('not a tokenizer')
    paths = ('tokenizer_file', 'vocab_file', 'name_or_path')
    for values in (
        dict(additional_special_tokens=None),
        dict.fromkeys(paths, str(other)),
    ):
        write_tokenizer_config(folder, **values)
        _, tokenizer = load(folder)
        assert tokenizer(['red blue'])[0, :3].tolist() == [2, 3, 1]


@pytest.mark.parametrize('named', ['tokenizer', 'tokenizer_config', 'both'])
def test_a_folder_does_not_run_its_python(folder, named):
    witness = folder / 'witness'
    (folder / 'evil.py').write_text(CODE.format(witness=witness))
    if named != 'tokenizer_config':
        kwargs = dict(trust_remote_code=True)
        set_in(folder, 'text_cfg', tokenizer_kwargs=kwargs)
    if named != 'tokenizer':
        auto_map = {'AutoTokenizer': ['evil.Evil', 'evil.Evil']}
        write_tokenizer_config(folder, auto_map=auto_map)
    with pytest.raises(CheckpointError, match=r'trust_remote_code|auto_map'):
        load(folder)
    assert not witness.exists()
    assert 'evil' not in sys.modules


@pytest.mark.parametrize(
    'config',
    [
        dict(tokenizer_class='AutoModel'),
        dict(tokenizer_class='pipeline'),
        dict(padding_side='/etc/passwd'),
        dict(pad_token=dict(content=3)),
        dict(model_max_length='9'),
    ],
)
def test_a_tokenizer_config_of_wrong_values_is_refused(folder, config):
    write_tokenizer_config(folder, **config)
    with pytest.raises(CheckpointError, match=r'tokenizer_config\.json: '):
        load(folder)


@pytest.mark.parametrize(
    'steps',
    [
        [dict(type='Replace', pattern=dict(String='a'), content='aa')] * 40,
        [dict(type='ByteLevel', add_prefix_space=False)] * 40,
    ],
)
@pytest.mark.parametrize('kind', ['normalizer', 'pre_tokenizer'])
def test_a_tokenizer_does_not_blow_texts_up(folder, kind, steps):
    name = kind.replace('_', '') + 's'
    config = TOKENIZER | {kind: {'type': 'Sequence', name: steps}}
    (folder / 'tokenizer.json').write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match='a thousand times longer'):
        load(folder)


@pytest.mark.parametrize(
    ('part', 'values'),
    [
        ('model_cfg', dict(newer=1)),
        ('model_cfg', dict(embed_dim=HUGE)),
        ('model_cfg', dict(text_cfg=[1])),
        ('text_cfg', dict(layers=HUGE)),
        ('text_cfg', dict(width=2**40)),
        ('text_cfg', dict(vocab_size=10**12)),
        ('text_cfg', dict(context_length='77')),
        ('text_cfg', dict(hf_model_name='someone/x')),
        ('text_cfg', dict(tokenizer_kwargs=dict(bpe_path='/etc/passwd'))),
        ('text_cfg', dict(norm_kwargs=dict(device='cuda'))),
        ('text_cfg', dict(act_kwargs=dict(approximate=1))),
        ('multimodal_cfg', dict(n_queries=HUGE)),
        ('vision_cfg', dict(layers=HUGE)),
        ('vision_cfg', dict(layers=True)),
        ('vision_cfg', dict(image_size=[HUGE, HUGE])),
        ('vision_cfg', dict(image_size=[])),
        (
            'vision_cfg',
            dict(image_size=2**14, patch_size=1, pos_embed_type='sin_cos_2d'),
        ),
        ('vision_cfg', dict(width=float('nan'))),
        ('vision_cfg', dict(mlp_ratio='4')),
        ('vision_cfg', dict(timm_model_name='hf-hub:someone/x')),
        ('vision_cfg', dict(timm_model_name=3)),
        ('vision_cfg', dict(timm_pool={})),
    ],
)
def test_a_model_config_of_others_is_taken_by_name(folder, part, values):
    set_in(folder, part, **values)
    name = next(iter(values))
    with pytest.raises(CheckpointError, match=rf'open_clip_config.*{name}'):
        load(folder)
    if part == 'vision_cfg' or name == 'embed_dim':
        with pytest.raises(CheckpointError, match=name):
            convert_folder(folder)


def test_a_text_tower_is_no_larger_than_the_file(folder):
    set_in(folder, 'text_cfg', width=2**16, heads=16, layers=20)
    with pytest.raises(CheckpointError, match='does not have both towers'):
        load(folder)
    weights = str(folder / 'open_clip_model.safetensors')
    with pytest.raises(CheckpointError, match='does not have both towers'):
        OpenCLIPTextTower(config_of(folder), weights)


def test_a_mask_is_no_larger_than_the_file(folder):
    length = 50_000  # a mask of ten gigabytes
    set_in(folder, 'text_cfg', context_length=length, width=1, heads=1)
    path = folder / 'open_clip_model.safetensors'
    save_file(load_file(path) | {'x': torch.zeros(2 * length)}, path)
    with pytest.raises(CheckpointError, match='context_length is too large'):
        load(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    model = TOKENIZER['model']
    vocab = model['vocab'] | dict(red=10**5)
    content = TOKENIZER | dict(model=model | dict(vocab=vocab))
    (folder / 'tokenizer.json').write_text(json.dumps(content))
    _, tokenizer = load(folder)
    assert tokenizer(['blue'])[0, 0] == 3
    with pytest.raises(CheckpointError, match='gives token 100000'):
        tokenizer(['red'])


def test_a_tokenizer_that_cannot_be_used_is_refused(folder):
    write_tokenizer_config(folder, pad_token=None)
    _, tokenizer = load(folder)
    with pytest.raises(CheckpointError, match=r'config\.json fails: .*pad'):
        tokenizer(['red'])


def test_fields_that_no_loader_reads_are_left_alone(folder):
    set_in(folder, 'model_cfg', description='of a newer version')
    assert convert_folder(folder)['state_dict']


@pytest.mark.parametrize('content', ['[]', '3', '"x"', '{', '[' * 100_000])
@pytest.mark.parametrize('name', ['open_clip_config.json', 'config.json'])
def test_files_that_hold_no_object_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    save_file({'a': torch.zeros(1)}, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match=name):
        convert_folder(tmp_path)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model_cfg', 3),
        ('preprocess_cfg', [1]),
        ('preprocess_cfg', dict(mean=3)),
    ],
)
def test_parts_of_the_wrong_type_are_refused(folder, key, value):
    path = folder / 'open_clip_config.json'
    config = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r'open_clip_config\.json'):
        convert_folder(folder)


BACKBONE = dict(
    type='mmclip.CLIPVisionTransformer',
    arch=dict(width=8, depth=1, num_heads=2, mlp_width=8),
    act='gelu',
    img_size=8,
    patch_size=4,
)
TIMM = dict(embed_dim=8, vision_cfg=dict(timm_model_name='hf-hub:someone/x'))
STRANGE = [
    dict(type='mmclip.OpenCLIPVisionTower', model=TIMM),
    dict(type='mmclip.TimmVisionTower', model='hf-hub:someone/x'),
    dict(type='mmclip.TimmVisionTower', model='local-dir:/tmp'),
    dict(type='mmclip.TimmVisionTower', model=TIMM),
    dict(
        type='mmclip.TimmVisionTower',
        model='vit_tiny_patch16_224',
        proj_dim=HUGE,
    ),
    dict(type='mmclip.TimmVisionTower', model='vit_tiny_patch16_224'),
    BACKBONE | dict(arch=BACKBONE['arch'] | dict(depth=HUGE)),
    BACKBONE | dict(arch=BACKBONE['arch'] | dict(depth=500)),
    BACKBONE | dict(arch=[1]),
    BACKBONE | dict(arch='no such'),
    BACKBONE | dict(img_size=HUGE),
    BACKBONE | dict(act=['gelu']),
    BACKBONE | dict(norm_eps='1e-5'),
    dict(type=['ResNet']),
    [1],
]


@pytest.mark.parametrize('backbone', STRANGE)
def test_a_description_in_a_checkpoint_builds_nothing_strange(backbone):
    module = build_backbone(BACKBONE)
    tensors = {f'backbone.{k}': t for k, t in module.state_dict().items()}
    checkpoint = dict(
        meta=dict(clip=dict(backbone=backbone, img_size=8)),
        state_dict=tensors,
    )
    with pytest.raises(CheckpointError):
        export_checkpoint(checkpoint, 'timm')


def test_an_address_in_a_config_is_not_followed():
    with pytest.raises(CheckpointError, match='timm_model_name must be'):
        OpenCLIPVisionTower(TIMM)


HF_CONFIG = dict(
    model_type='clip_vision_model',
    hidden_size=8,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=8,
    patch_size=4,
)
HF_PROCESSOR = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)


class TestHuggingFace:
    """``config.json`` and ``preprocessor_config.json``."""

    @pytest.fixture
    def folder(self, tmp_path):
        from transformers import CLIPVisionConfig, CLIPVisionModel

        model = CLIPVisionModel(CLIPVisionConfig(**HF_CONFIG))
        save_file(model.state_dict(), tmp_path / 'model.safetensors')
        self.write(tmp_path)
        return tmp_path

    def write(self, folder, config=(), processor=()):
        for name, content in (
            ('config.json', HF_CONFIG | dict(config)),
            ('preprocessor_config.json', HF_PROCESSOR | dict(processor)),
        ):
            (folder / name).write_text(json.dumps(content))

    def test_the_folder_is_converted(self, folder):
        assert convert_folder(folder)['meta']['clip']['img_size'] == 8

    @pytest.mark.parametrize(
        'config',
        [
            dict(model_type=['clip']),
            dict(num_hidden_layers=HUGE),
            dict(num_hidden_layers=500),
            dict(hidden_size=None),
            dict(image_size=[8]),
            dict(layer_norm_eps=float('inf')),
            dict(hidden_act={}),
            dict(vision_config=[1]),
            dict(_name_or_path=3),
        ],
    )
    def test_configs_are_checked(self, folder, config):
        self.write(folder, config)
        with pytest.raises(CheckpointError):
            convert_folder(folder)

    @pytest.mark.parametrize(
        'processor',
        [
            dict(image_mean=3),
            dict(image_mean=[1, 2]),
            dict(image_std=[0, 0, 0]),
            dict(resample=[3]),
            dict(resample='bicubic'),
            dict(image_processor_type=3),
            dict(do_center_crop='yes'),
            dict(size='large'),
            dict(size=dict(shortest_edge='x')),
            dict(crop_size=[8, 8]),
        ],
    )
    def test_processors_are_checked(self, folder, processor):
        self.write(folder, processor=processor)
        with pytest.raises(
            CheckpointError, match=r'preprocessor_config\.json'
        ):
            convert_folder(folder)

    @pytest.mark.parametrize(
        'values',
        [
            dict(vision_config=None),
            dict(vision_config_dict=dict(layer_norm_eps=0.01)),
            dict(
                vision_config=dict(layer_norm_eps=0.03, hidden_act='gelu'),
                vision_config_dict=dict(layer_norm_eps=0.01),
            ),
        ],
    )
    def test_the_vision_config_is_that_of_transformers(self, values, tmp_path):
        from transformers import CLIPConfig

        from mmclip.checkpoint.towers.hugging_face import _find_tower

        path = tmp_path / 'config.json'
        path.write_text(json.dumps(dict(model_type='clip', **values)))
        theirs = CLIPConfig(**values).vision_config
        ours = _find_tower(path, set()).backbone
        assert ours['norm_eps'] == theirs.layer_norm_eps
        assert ours['act'] == theirs.hidden_act
        assert ours['arch']['width'] == theirs.hidden_size
