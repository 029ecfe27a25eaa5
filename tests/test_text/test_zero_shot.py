"""Zero-shot classifiers are open_clip's own, in an ordinary checkpoint."""

import errno
import json

import open_clip
import pytest
import torch
from huggingface_hub import constants
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from safetensors.torch import load, save_file

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import CheckpointError
from mmclip.errors import ArgumentError, DataError
from mmclip.text import class_embeddings as module
from mmclip.text.class_embeddings import (
    class_names,
    embed_classes,
    named_templates,
)
from mmclip.text.whole_model import build_whole_model
from mmclip.text.zero_shot import zero_shot_checkpoint
from tests.conftest import RELATIVE_TOLERANCE, save_whole_model
from tests.test_checkpoint.conftest import shrink
from tests.test_untrusted import TOKENIZER, set_in, write_tokenizer_config

CLASSES = ['a cat', 'dog', 'fire truck']
TEMPLATES = ['a photo of {}', 'the {}.', 'a drawing of {}']


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    return tmp_path / 'torch' / 'hub' / 'mmclip' / 'class_embeddings'


def make_model(folder, **changes):
    model = save_whole_model(folder, **changes)
    config = str(folder / 'open_clip_config.json')
    return model, config, str(folder / 'open_clip_model.safetensors')


def write_tokenizer(folder, **words):
    """Let a folder's config name the tokenizer beside it."""
    set_in(folder, 'text_cfg', hf_tokenizer_name='x/y')
    vocab = {'[UNK]': 0, '[PAD]': 1} | words
    content = TOKENIZER | dict(model=TOKENIZER['model'] | dict(vocab=vocab))
    (folder / 'tokenizer.json').write_text(json.dumps(content))
    write_tokenizer_config(folder)


def build(checkpoint):
    """The classifier that a checkpoint holds, with its weights."""
    init_default_scope('mmpretrain')  # whatever ran before
    clip = checkpoint['meta']['clip']
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=clip['backbone'],
            head=clip['head'],
        )
    )
    model.load_state_dict(checkpoint['state_dict'])  # strictly
    return model.eval()


def their_logits(model, tokenizer, images, classes=CLASSES):
    """Scale times cosine, plus the bias if there is one, by open_clip."""
    classifier = open_clip.build_zero_shot_classifier(
        model, tokenizer, classes, TEMPLATES
    )
    with torch.no_grad():
        cosines = model.encode_image(images, normalize=True) @ classifier
    bias = getattr(model, 'logit_bias', None)
    return model.logit_scale.exp() * cosines + (0 if bias is None else bias)


@pytest.mark.parametrize(
    'changes',
    [{}, dict(custom_text=True, init_logit_bias=-10)],
    ids=['CLIP', 'with its text tower apart and a bias, as SigLIP'],
)
@torch.no_grad()
def test_the_logits_are_those_of_open_clip(tmp_path, changes):
    model, config, weights = make_model(tmp_path, **changes)
    checkpoint = zero_shot_checkpoint(config, weights, CLASSES, TEMPLATES)
    images = torch.randn(4, 3, 32, 32)
    tokenizer = open_clip.get_tokenizer(f'local-dir:{tmp_path}')
    wanted = their_logits(model, tokenizer, images)
    ours = build(checkpoint)
    assert relative_difference(ours(images), wanted) < RELATIVE_TOLERANCE
    # What the comparison would see: a feature of another length.
    ours.head.pre_logits = lambda feats: 1.001 * feats[-1]
    assert relative_difference(ours(images), wanted) > RELATIVE_TOLERANCE


@torch.no_grad()
def test_the_text_tower_has_the_tags_activation(tmp_path, monkeypatch):
    """ViT-B-32 with `openai` is QuickGELU in both towers."""
    shrink(monkeypatch, 'ViT-B-32', 'ViT-B-32-quickgelu')
    torch.manual_seed(0)
    reference = open_clip.create_model('ViT-B-32-quickgelu').eval()
    path = tmp_path / 'x.safetensors'
    save_file(reference.state_dict(), path)
    images = torch.randn(1, 3, 224, 224)
    tokenizer = open_clip.get_tokenizer('ViT-B-32')
    wanted = their_logits(reference, tokenizer, images)
    logits = {
        tag: build(
            zero_shot_checkpoint(
                'ViT-B-32', str(path), CLASSES, TEMPLATES, tag
            )
        )(images)
        for tag in ('openai', 'laion2b_s34b_b79k')
    }
    quick, plain = logits.values()
    assert relative_difference(quick, wanted) < RELATIVE_TOLERANCE
    assert relative_difference(plain, wanted) > RELATIVE_TOLERANCE


def test_classes_have_their_names_in_the_checkpoint(tmp_path):
    _, config, weights = make_model(tmp_path)
    meta = zero_shot_checkpoint(config, weights, CLASSES, TEMPLATES)['meta']
    assert meta['dataset_meta']['classes'] == CLASSES
    assert meta['clip']['head'] == dict(
        type='mmclip.ZeroShotClsHead', num_classes=3, in_channels=24
    )


def test_position_ids_of_older_transformers_are_no_weights(tmp_path):
    """As open_clip has it, which leaves them out of such files."""
    model, config, weights = make_model(tmp_path)
    ids = {'text.transformer.embeddings.position_ids': torch.arange(3)}
    save_file(model.state_dict() | ids, weights)
    embed_classes(config, weights, CLASSES, TEMPLATES)


class TestCache:
    def test_the_text_tower_runs_once(self, tmp_path, cache, monkeypatch):
        _, config, weights = make_model(tmp_path)
        first = embed_classes(config, weights, CLASSES, TEMPLATES)
        monkeypatch.setattr(module, 'load_whole_model', None)  # not callable
        second = embed_classes(config, weights, CLASSES, TEMPLATES)
        assert torch.equal(first.embeddings, second.embeddings)
        assert first.logit_scale == second.logit_scale
        assert len(list(cache.iterdir())) == 1

    @pytest.mark.parametrize(
        'changed',
        ['classes', 'templates', 'weights', 'config', 'folder', 'tokenizer'],
    )
    def test_anything_else_is_computed_anew(self, tmp_path, cache, changed):
        model, config, weights = make_model(tmp_path)
        classes, templates = list(CLASSES), list(TEMPLATES)
        if changed == 'tokenizer':
            write_tokenizer(tmp_path, cat=2, dog=3)
        named = str(tmp_path) if changed == 'folder' else weights
        before = embed_classes(config, named, classes, templates)
        if changed == 'classes':
            classes[0] = 'a cow'
        elif changed == 'templates':
            templates[0] = 'no photo of {}'
        elif changed in ('weights', 'folder'):
            torch.nn.init.normal_(model.text_projection)
            save_file(model.state_dict(), weights)
        elif changed == 'tokenizer':
            write_tokenizer(tmp_path, cat=3, dog=2)
        else:
            save_whole_model(tmp_path, quick_gelu=False)  # the same weights
        after = embed_classes(config, named, classes, templates)
        assert not torch.equal(before.embeddings, after.embeddings)
        assert len(list(cache.iterdir())) == 2

    @pytest.mark.parametrize('changed', ['name', 'pretrained', 'tag', None])
    def test_whatever_is_named_differently_is_another(
        self, tmp_path, cache, monkeypatch, changed
    ):
        model, _, _ = make_model(tmp_path, embed_dim=512)  # ViT-B's
        tokenizer = open_clip.get_tokenizer(f'local-dir:{tmp_path}')
        calls = []

        def load(*named):
            calls.append(named)
            return model, tokenizer

        monkeypatch.setattr(module, 'load_whole_model', load)
        named = dict(name='ViT-B-32', pretrained='openai', tag='none')
        embed_classes(classes=CLASSES, templates=TEMPLATES, **named)
        if changed:
            named[changed] = (
                'ViT-B-16' if changed == 'name' else 'laion400m_e32'
            )
        embed_classes(classes=CLASSES, templates=TEMPLATES, **named)
        assert len(calls) == len(list(cache.iterdir())) == 1 + bool(changed)

    def test_another_open_clip_computes_anew(
        self, tmp_path, cache, monkeypatch
    ):
        _, config, weights = make_model(tmp_path)
        embed_classes(config, weights, CLASSES, TEMPLATES)
        monkeypatch.setattr(module, 'version', lambda package: '0.0')
        embed_classes(config, weights, CLASSES, TEMPLATES)
        assert len(list(cache.iterdir())) == 2

    def test_what_is_damaged_is_made_again(self, tmp_path, cache, monkeypatch):
        _, config, weights = make_model(tmp_path)
        wanted = embed_classes(config, weights, CLASSES, TEMPLATES)
        (path,) = cache.iterdir()
        whole = path.read_bytes()
        tensors = load(whole)
        said = []
        monkeypatch.setattr(
            module, 'print_log', lambda message, **_: said.append(message)
        )
        for damage in (
            b'',
            b'<html>',
            dict(embeddings=torch.eye(24)[:2]),
            dict(embeddings=torch.eye(32)[:3]),
            dict(embeddings=torch.eye(24)[:3].double()),
            dict(embeddings=torch.eye(24)[0]),
            dict(embeddings=torch.zeros(3, 24)),
            dict(embeddings=torch.full((3, 24), float('nan'))),
            dict(logit_scale=torch.tensor(float('inf'))),
            dict(logit_bias=torch.tensor(float('nan'))),
            dict(logit_scale=torch.zeros(2)),
            dict(logit_scale=None),
        ):
            if isinstance(damage, bytes):
                path.write_bytes(damage)
            else:
                changed = (tensors | damage).items()
                save_file({k: t for k, t in changed if t is not None}, path)
            found = embed_classes(config, weights, CLASSES, TEMPLATES)
            assert torch.equal(found.embeddings, wanted.embeddings), damage
            assert found.logit_scale == wanted.logit_scale, damage
            assert path.read_bytes() == whole, damage
            message = said.pop()
            assert message.startswith(
                f'{path} is damaged and will be made again: '
            )
            assert not said

    def test_a_folder_that_cannot_be_written_costs_the_cache_only(
        self, tmp_path, cache, monkeypatch
    ):
        _, config, weights = make_model(tmp_path)
        wanted = embed_classes(config, weights, CLASSES, TEMPLATES)
        monkeypatch.setenv('TORCH_HOME', config)  # a file
        found = embed_classes(config, weights, CLASSES, TEMPLATES)
        assert torch.equal(found.embeddings, wanted.embeddings)


class TestRefusals:
    def test_a_text_tower_of_nan(self, tmp_path, cache):
        model, config, weights = make_model(tmp_path)
        model.text_projection.data[0, 0] = float('nan')
        save_file(model.state_dict(), weights)
        with pytest.raises(CheckpointError, match='must have length one'):
            embed_classes(config, weights, CLASSES, TEMPLATES)
        assert not cache.exists()

    def test_an_image_tower_alone(self, tmp_path):
        model, config, weights = make_model(tmp_path)
        save_file(model.visual.state_dict(), weights)
        with pytest.raises(CheckpointError, match='does not have both towers'):
            zero_shot_checkpoint(config, weights, CLASSES, TEMPLATES)

    def test_a_config_that_does_not_say_the_text_tower(self, tiny_model):
        config = json.loads(tiny_model.config.read_text())
        del config['text_cfg']
        tiny_model.config.write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match='describe a text tower'):
            build_whole_model(str(tiny_model.config))

    @pytest.mark.parametrize(
        ('classes', 'templates', 'message'),
        [
            ([], TEMPLATES, 'got 0 and 3'),
            (CLASSES, [], 'got 3 and 0'),
            (CLASSES, ['a photo'], "'a photo' must have one {}"),
            (CLASSES, ['a {} of {x}'], "'a {} of {x}' must have one {}"),
            (CLASSES, ['a {} of {}'], "'a {} of {}' must have one {}"),
            (CLASSES, ['a {} }'], "'a {} }' must have one {}"),
        ],
    )
    def test_nothing_to_embed(self, tmp_path, classes, templates, message):
        _, config, weights = make_model(tmp_path)
        with pytest.raises(ValueError, match=message):
            embed_classes(config, weights, classes, templates)


def test_a_tokenizer_out_of_reach_says_where_its_files_go(monkeypatch):
    def fail(name):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(open_clip, 'get_tokenizer', fail)
    with pytest.raises(CheckpointError) as caught:
        build_whole_model('ViT-B-16-SigLIP2-256', 'webli')
    said = str(caught.value)
    assert "open_clip.get_tokenizer('ViT-B-16-SigLIP2-256')" in said
    assert 'models--timm--ViT-B-16-SigLIP2-256 from' in said
    assert f'to {constants.HF_HUB_CACHE} here' in said


def test_a_full_disk_is_not_a_hub_out_of_reach(monkeypatch):
    def fail(name):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(open_clip, 'get_tokenizer', fail)
    with pytest.raises(OSError, match='No space left'):
        build_whole_model('ViT-B-16-SigLIP', 'webli')


def test_names_and_templates_by_word_and_by_file(tmp_path):
    assert class_names('imagenet')[:2] == ['tench', 'goldfish']
    assert len(named_templates('openai')) == 80
    assert len(named_templates('simple')) == 7
    path = tmp_path / 'names.txt'
    path.write_text('cat\n\n  fire truck \n', encoding='utf-8-sig')
    assert class_names(str(path)) == ['cat', 'fire truck']
    assert class_names('cat, fire truck') == ['cat', 'fire truck']
    long = [f'a long name {i}' for i in range(1000)]
    assert class_names(','.join(long)) == long
    with pytest.raises(ArgumentError, match='named twice: cat'):
        class_names('cat,dog,cat')
    path.write_bytes('café\nsky'.encode('latin-1'))
    with pytest.raises(DataError, match=r'names\.txt is not UTF-8'):
        class_names(str(path))
    with pytest.raises(FileNotFoundError, match=r'no text file .*no\.txt'):
        named_templates(str(tmp_path / 'no.txt'))


def test_how_long_many_texts_take_is_announced(tmp_path, monkeypatch):
    _, config, weights = make_model(tmp_path)
    wanted = embed_classes(config, weights, CLASSES, TEMPLATES)
    said = []
    monkeypatch.setattr(module, 'LEAST_SECONDS', 0.0)
    monkeypatch.setattr(module, 'TEXTS_PER_BATCH', 1)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'other'))
    found = embed_classes(
        config,
        weights,
        CLASSES,
        TEMPLATES,
        announce=lambda *numbers: said.append(numbers),
    )
    [(texts, seconds)] = said
    assert texts == len(CLASSES) * len(TEMPLATES)
    assert seconds > 0
    torch.testing.assert_close(found.embeddings, wanted.embeddings)
