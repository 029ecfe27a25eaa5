"""What the tool says of a file."""

import json

import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins
from mmclip.checkpoint import convert_source, write_checkpoint
from mmclip.commands.inspect import main

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


def test_what_the_file_is_and_whether_it_fits(tiny_model, tmp_path, call):
    save_file(tiny_model.model.state_dict(), tmp_path / 'x.safetensors')
    source = (str(tiny_model.config), str(tmp_path / 'x.safetensors'))
    write_checkpoint(convert_source(*source)[0], tmp_path / 'x.pth')
    for act in ('gelu', 'quick_gelu'):
        (tmp_path / f'{act}.py').write_text(CONFIG.format(act=act))
    report = call(main, 'x.pth', '--config', 'quick_gelu.py').out
    assert 'names: mmpretrain\n' in report
    for line in ('width: 32', 'depth: 2', 'mlp_width: 128', 'patch_size: 8'):
        assert f'  {line}\n' in report
    assert 'activation: quick_gelu' in report
    assert 'fits the backbone of quick_gelu.py' in report
    gelu = ('--config', 'gelu.py')
    result = call(main, 'x.pth', *gelu)
    assert "act: checkpoint 'quick_gelu', here 'gelu'" in result.out
    assert result.code == 1
    report = call(main, 'x.safetensors', *gelu).out
    assert "has no meta['clip']" in report
    (tmp_path / 'no_model.py').write_text('work_dir = "x"')
    (tmp_path / 'typo.py').write_text('optim_wraper = dict()')
    for config, words in (
        ('no_model.py', 'no_model.py does not define model.backbone'),
        ('typo.py', "'optim_wraper'"),
    ):
        result = call(main, 'x.pth', '--config', config)
        assert result.code == 1
        assert words in result.err.splitlines()[-1]


def test_verify(tmp_path, call):
    reference, _ = make_twins('ViT-S-32')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    save_file(weights, tmp_path / 'x.safetensors')
    verify = ('--tag', 'none', '--verify', 'ViT-S-32')
    report = call(main, 'x.safetensors', *verify, 'x.safetensors').out
    assert 'models with such a tower: ViT-S-32\n' in report
    assert 'same outputs as ViT-S-32' in report
    (tmp_path / 'hub').mkdir()  # as Hugging Face's caches are
    save_file(weights, tmp_path / 'hub' / 'open_clip_model.safetensors')
    report = call(main, 'hub', *verify, 'x.safetensors').out
    assert 'same outputs as ViT-S-32' in report
    weights['visual.ln_post.bias'] += 0.1
    save_file(weights, tmp_path / 'y.safetensors')
    result = call(main, 'x.safetensors', *verify, 'y.safetensors')
    assert 'outputs DIFFER from' in result.out
    assert result.code == 1


def test_the_activation_of_a_folder_is_in_its_config(
    tiny_model, tmp_path, call
):
    (tmp_path / 'folder').mkdir()
    save_file(
        tiny_model.model.state_dict(),
        tmp_path / 'folder' / 'open_clip_model.safetensors',
    )
    model_cfg = json.loads(tiny_model.config.read_text())
    config = tmp_path / 'folder' / 'open_clip_config.json'
    config.write_text(json.dumps(dict(model_cfg=model_cfg)))
    report = call(main, 'folder').out
    assert '\nactivation: quick_gelu\n' in report
    assert '\n  preprocess.resize_mode: shortest\n' in report


def test_a_tag_without_verify_is_refused(call):
    result = call(main, 'x.pth', '--tag', 'openai')
    assert '--tag is for a file in --verify' in result.err
    assert result.code == 2


def test_weights_of_something_else(tmp_path, call):
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'x.pt')
    assert 'cannot be converted: The keys' in call(main, 'x.pt').out
