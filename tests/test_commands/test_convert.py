"""The seed's command, as a user types it."""

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mmclip.analysis.parity import make_twins, relative_difference
from mmclip.checkpoint import read_checkpoint
from mmclip.checkpoint.files.paths import sha256
from mmclip.commands.convert import main
from mmclip.models import CLIPVisionTransformer
from tests.conftest import RELATIVE_TOLERANCE, put_into_hub_cache
from tests.test_commands.conftest import TOOLS

TOOL = TOOLS / 'model_converters' / 'openclip_to_mmcls.py'
FETCH = (
    'Fetch open_clip_model.safetensors from https://huggingface.co/timm/'
    'vit_large_patch14_clip_336.openai elsewhere, put it into this folder, '
    'and type: mmclip convert ViT-L-14-336 open_clip_model.safetensors '
    'ViT-L-14-336.pth --tag openai;'
)
OFFLINE = dict(HF_HUB_OFFLINE='1')


@pytest.fixture
def source(tiny_model, tmp_path):
    path = tmp_path / 'epoch_1.pt'
    torch.save(dict(state_dict=tiny_model.model.state_dict()), path)
    return path


def save_training_checkpoint(state_dict, path):
    wrapped = {f'module.{key}': tensor for key, tensor in state_dict.items()}
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    torch.save(
        dict(
            epoch=1,
            name='run',
            state_dict=wrapped,
            optimizer=optimizer.state_dict(),
        ),
        path,
    )


@pytest.mark.parametrize(
    ('name', 'save'),
    [
        ('x.pt', torch.save),
        ('x.pth', torch.save),
        ('x.bin', torch.save),
        ('x.safetensors', save_file),
        ('epoch_1.pt', save_training_checkpoint),
    ],
)
def test_every_file_format(tiny_model, tmp_path, call, name, save):
    state_dict = tiny_model.model.state_dict()
    save({k: v.contiguous() for k, v in state_dict.items()}, tmp_path / name)
    assert call(main, tiny_model.config, name, 'out.pth').code == 0
    converted = read_checkpoint(tmp_path / 'out.pth')['state_dict']
    assert torch.equal(converted['backbone.proj'], state_dict['visual.proj'])
    assert len(converted) == len(tiny_model.model.visual.state_dict())


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
        ('ViT-L-14', 'laion2b_s32b', 'its tags: '),
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
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert message in exit_message(main, name, pretrained, 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.slow
def test_the_seeds_command_at_full_size(tmp_path, run):
    """With random weights where open_clip looks for its downloads."""
    reference, _ = make_twins('ViT-L-14-336', 'openai')
    weights = {f'visual.{k}': v for k, v in reference.state_dict().items()}
    weights['logit_scale'] = torch.zeros(())
    repository = open_clip.get_pretrained_cfg('ViT-L-14-336', 'openai')[
        'hf_hub'
    ]
    folder = put_into_hub_cache(tmp_path / 'hub', repository.strip('/'))
    save_file(weights, folder / 'open_clip_model.safetensors')
    out = tmp_path / 'ViT-L-14-336px.pth'
    hub = str(tmp_path / 'hub')
    run(TOOL, 'ViT-L-14-336', 'openai', out.name, HF_HUB_CACHE=hub, **OFFLINE)

    backbone = CLIPVisionTransformer(
        'large',
        act='quick_gelu',
        img_size=336,
        patch_size=14,
        proj_dim=768,
        init_cfg=dict(type='mmclip.PretrainedCLIP', checkpoint=str(out)),
    )
    backbone.init_weights()
    x = torch.randn(1, 3, 336, 336)
    with torch.no_grad():
        ours, wanted = backbone.eval()(x)[0], reference.eval()(x)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_memory_stays_below_twice_the_image_tower(tmp_path, run, dtype):
    """Beyond what the interpreter has when all is imported."""
    model_cfg = open_clip.get_model_config('ViT-L-14-336')
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
    arguments = ('ViT-L-14-336', 'source.safetensors', 'out.pth')
    output = run(script, *arguments, '--tag', 'openai').stdout
    peak = int(output.rsplit('peak: ', 1)[1])
    assert peak < 2 * tower
    assert peak > tower / 2  # the measurement measures


MEASURE = """
import re
import open_clip, timm, mmclip.checkpoint
from mmclip.checkpoint.towers.open_clip import find_tower
from mmclip.commands.convert import main
find_tower('ViT-L-14-336', 'openai')

def peak():
    # Not ru_maxrss, which a program inherits from the one that starts it.
    status = open('/proc/self/status').read()
    return 1024 * int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])

before = peak()
assert main() == 0
print('peak:', peak() - before)
"""
