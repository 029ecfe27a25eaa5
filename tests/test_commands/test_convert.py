"""The seed's command, as a user types it."""

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins
from mmclip.checkpoint import read_checkpoint
from mmclip.checkpoint.files.paths import sha256
from mmclip.commands.convert import main
from mmclip.models import CLIPVisionTransformer
from tests.conftest import put_into_hub_cache, use_hub_cache
from tests.test_checkpoint.conftest import assert_same, shrink

NAME = 'ViT-L-14-336'
FETCH = (
    'Fetch open_clip_model.safetensors from https://huggingface.co/timm/'
    'vit_large_patch14_clip_336.openai elsewhere, put it into this folder, '
    'and type, for the image tower that configs take: mmclip convert '
    'ViT-L-14-336 open_clip_model.safetensors ViT-L-14-336.pth --tag openai, '
    'or for a classifier: mmclip zero-shot ViT-L-14-336 '
    'open_clip_model.safetensors OUT.pth --tag openai'
)


@pytest.fixture
def source(tiny_model, tmp_path):
    path = tmp_path / 'epoch_1.pt'
    torch.save(dict(state_dict=tiny_model.model.state_dict()), path)
    return path


def test_the_report(tiny_model, source, tmp_path, call):
    report = call(main, tiny_model.config, source, 'out.pth').out
    out = tmp_path / 'out.pth'
    assert 'visual.proj -> proj (1)' in report
    assert 'text tower: ' in report
    assert 'contrastive head: 1 tensors (logit_scale' in report
    assert 'activation: quick_gelu' in report
    count = sum(p.numel() for p in tiny_model.model.visual.parameters())
    assert f'parameters: {count:,}' in report
    assert sha256(out) in report
    size = f'{out.stat().st_size:,} bytes'
    assert report.endswith(
        f'wrote out.pth (an image tower, {size})\nnext: mmclip train CONFIG\n'
    )


def test_an_output_that_exists_is_kept_without_force(
    tiny_model, source, tmp_path, call, exit_message
):
    out = tmp_path / 'out.pth'
    out.write_text('mine')
    arguments = (tiny_model.config, source, out)
    assert 'pass --force' in exit_message(main, *arguments)
    assert out.read_text() == 'mine'
    assert call(main, *arguments, '--force').code == 0
    assert read_checkpoint(out)['meta']['clip']['img_size'] == 32


@pytest.mark.parametrize(
    ('name', 'pretrained', 'message'),
    [
        ('ViT-L14-336', 'openai', "did you mean 'ViT-L-14-336'"),
        ('ViT-L-14', 'missing.pt', 'Checkpoint missing.pt does not exist'),
        ('x.json', 'openai', 'Model config x.json does not exist.'),
        ('.', 'openai', '. is a folder. Give a model name, or the config'),
        ('tiny.json', 'openia', "which has no pretrained tags; got 'openia'"),
        ('ViT-S-32', '.', '. is a folder without weights'),
        ('ViT-L-14-336', 'openai', FETCH),
        ('vit_base_patch16_clip_quickgelu_224', 'openai', 'mmclip convert'),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(
    tiny_model, tmp_path, monkeypatch, exit_message, name, pretrained, message
):
    use_hub_cache(monkeypatch, tmp_path)
    assert message in exit_message(main, name, pretrained, 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_the_seeds_command(tmp_path, call, monkeypatch):
    """With random weights where open_clip looks for its downloads."""
    shrink(monkeypatch, NAME)
    reference, _ = make_twins(NAME, 'openai')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    weights['logit_scale'] = torch.zeros(())
    repository = open_clip.get_pretrained_cfg(NAME, 'openai')['hf_hub']
    folder = put_into_hub_cache(tmp_path, repository.strip('/'))
    save_file(weights, folder / 'open_clip_model.safetensors')
    use_hub_cache(monkeypatch, tmp_path)
    assert call(main, NAME, 'openai', 'ViT-L-14-336px.pth').code == 0

    path = str(tmp_path / 'ViT-L-14-336px.pth')
    backbone = CLIPVisionTransformer(
        dict(width=64, depth=2, num_heads=2, mlp_width=128),
        act='quick_gelu',
        img_size=336,
        patch_size=14,
        proj_dim=768,
        init_cfg=dict(type='mmclip.PretrainedCLIP', checkpoint=path),
    )
    backbone.init_weights()
    assert_same(backbone.eval(), reference, torch.randn(1, 3, 336, 336))


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_memory_stays_below_twice_the_image_tower(tmp_path, run, dtype):
    """Beyond what the interpreter has when all is imported."""
    model_cfg = open_clip.get_model_config('ViT-B-32')
    with torch.device('meta'):
        shapes = open_clip.CLIP(**model_cfg).state_dict()
    torch.manual_seed(0)
    weights = {k: torch.randn(v.shape).to(dtype) for k, v in shapes.items()}
    save_file(weights, tmp_path / 'source.safetensors')
    tower = sum(
        4 * v.numel() for k, v in shapes.items() if k.startswith('visual.')
    )
    script = tmp_path / 'measure.py'
    script.write_text(MEASURE)
    arguments = ('ViT-B-32', 'source.safetensors', 'out.pth')
    output = run(script, *arguments, '--tag', 'openai').stdout
    peak = int(output.rsplit('peak: ', 1)[1])
    assert peak < 2 * tower
    assert peak > tower / 2  # the measurement measures


MEASURE = """
import re
import open_clip, timm, mmclip.checkpoint
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.commands.convert import main
find_tower('ViT-B-32', 'openai')

def peak():
    # Not ru_maxrss, which a program inherits from the one that starts it.
    status = open('/proc/self/status').read()
    return 1024 * int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])

before = peak()
assert main() == 0
print('peak:', peak() - before)
"""
