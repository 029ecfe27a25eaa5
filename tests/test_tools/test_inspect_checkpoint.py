"""What the tool says of every kind of file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins
from mmclip.checkpoint import convert_source, write_checkpoint
from mmclip.checkpoint.to_others import export_checkpoint
from tests.test_tools.conftest import TOOLS

TOOL = TOOLS / 'model_converters' / 'inspect_checkpoint.py'
CONFIG = """
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmclip.CLIPVisionTransformer',
        arch=dict(width=32, depth=2, num_heads=2, mlp_width=128),
        act='{act}',
        img_size=48,
        patch_size=8,
    ),
)
"""


@pytest.fixture
def files(tiny_model, tmp_path):
    """One tower in every project's names."""
    whole = tiny_model.model.state_dict()
    save_file(whole, tmp_path / 'open_clip.safetensors')
    checkpoint, _ = convert_source(
        str(tiny_model.config), str(tmp_path / 'open_clip.safetensors')
    )
    write_checkpoint(checkpoint, tmp_path / 'mmpretrain.pth')
    for to in ('timm', 'hf'):
        exported = export_checkpoint(checkpoint, to)
        folder = tmp_path / to if exported.files else tmp_path
        folder.mkdir(exist_ok=True)
        name = 'model' if exported.files else to
        save_file(exported.state_dict, folder / f'{name}.safetensors')
        for file, content in exported.files.items():
            (folder / file).write_text(json.dumps(content))
    for act in ('gelu', 'quick_gelu'):
        (tmp_path / f'{act}.py').write_text(CONFIG.format(act=act))
    return tmp_path


@pytest.mark.parametrize(
    ('file', 'names'),
    [
        ('open_clip.safetensors', 'open_clip'),
        ('mmpretrain.pth', 'mmpretrain'),
        ('timm.safetensors', 'timm'),
        ('hf', 'Hugging Face CLIP'),
        ('hf/model.safetensors', 'Hugging Face CLIP'),
    ],
)
def test_names_and_shapes(files, run, file, names):
    report = run(TOOL, file).stdout
    assert f'names: {names}\n' in report
    for line in ('width: 32', 'depth: 2', 'mlp_width: 128', 'patch_size: 8'):
        assert f'  {line}\n' in report
    assert 'img_size: 32' in report
    assert 'proj_dim: 24' in report
    assert ('activation: quick_gelu' in report) == (
        file in ('mmpretrain.pth', 'hf')
    )


def test_open_clips_names_and_activations(tmp_path, run):
    reference, _ = make_twins('ViT-B-16-plus-240')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    save_file(weights, tmp_path / 'x.safetensors')
    report = run(TOOL, 'x.safetensors').stdout
    assert 'with such a tower: ViT-B-16-plus-240\n' in report
    assert 'gelu: ViT-B-16-plus-240/laion400m_e31' in report


@pytest.mark.parametrize('converted', [False, True])
def test_towers_that_open_clip_alone_has(tmp_path, run, converted):
    reference, _ = make_twins('RN50')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    path = tmp_path / 'x.safetensors'
    save_file(weights, path)
    if converted:
        checkpoint, _ = convert_source('RN50', str(path), 'openai')
        write_checkpoint(checkpoint, path)
    for model in ('RN50', 'RN101'):
        (tmp_path / f'{model}.py').write_text(
            "model = dict(backbone=dict(type='mmclip.OpenCLIPVisionTower', "
            f"model='{model}'))"
        )
    report = run(TOOL, 'x.safetensors', '--config', 'RN50.py').stdout
    assert 'names: open_clip, of a tower that is its own module' in report
    assert 'with such a tower: RN50, RN50-quickgelu\n' in report
    assert 'fits the backbone of RN50.py' in report
    run(TOOL, 'x.safetensors', '--config', 'RN101.py', fails=True)


def test_what_would_not_load_and_why(files, run):
    report = run(TOOL, 'mmpretrain.pth', '--config', 'quick_gelu.py').stdout
    assert 'fits the backbone of quick_gelu.py' in report
    report = run(
        TOOL, 'mmpretrain.pth', '--config', 'gelu.py', fails=True
    ).stdout
    assert "act: checkpoint 'quick_gelu', backbone 'gelu'" in report
    report = run(TOOL, 'open_clip.safetensors', '--config', 'gelu.py').stdout
    assert 'cannot be checked' in report


@pytest.mark.parametrize('convert', [True, False])
def test_verify(tmp_path, run, convert):
    reference, _ = make_twins('ViT-S-32')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    save_file(weights, tmp_path / 'source.safetensors')
    file = 'source.safetensors'
    if convert:
        checkpoint, _ = convert_source(
            'ViT-S-32', str(tmp_path / file), 'none'
        )
        file = 'x.pth'
        write_checkpoint(checkpoint, tmp_path / file)
    verify = ('--verify', 'ViT-S-32', 'source.safetensors')
    report = run(TOOL, file, *verify, '--tag', 'none').stdout
    assert 'same outputs as ViT-S-32' in report
    weights['visual.ln_post.bias'] += 0.1
    save_file(weights, tmp_path / 'source2.safetensors')
    verify = ('--verify', 'ViT-S-32', 'source2.safetensors')
    assert 'OTHER outputs' in run(TOOL, file, *verify, fails=True).stdout


def test_a_tag_without_verify_is_refused(run):
    result = run(TOOL, 'x.pth', '--tag', 'openai', fails=True)
    assert '--tag is for a file in --verify' in result.stdout


def test_unreadable_files(tmp_path, run):
    (tmp_path / 'x.pt').write_bytes(b'<!DOCTYPE html><html>')
    result = run(TOOL, 'x.pt', fails=True)
    assert 'is a web page' in result.stdout
    assert 'Traceback' not in result.stdout


def test_weights_of_something_else(tmp_path, run):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'x.pt')
    assert 'cannot be converted: The keys' in run(TOOL, 'x.pt').stdout
