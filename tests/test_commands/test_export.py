"""Exporting on the command line, converted and fine-tuned checkpoints."""

import json
import shlex
from pathlib import Path

import open_clip
import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file, save_file

from mmclip.analysis.parity import relative_difference
from mmclip.checkpoint import convert_source, write_checkpoint
from mmclip.commands.export import main
from mmclip.engine.config.load import load_config
from tests.conftest import RELATIVE_TOLERANCE
from tests.test_commands.weights import write_random


@pytest.fixture(autouse=True)
def forget_model_configs(monkeypatch):
    """What is added to open_clip's models is for one test."""
    for name, kind in (
        ('_MODEL_CONFIGS', dict),
        ('_MODEL_CONFIG_PATHS', list),
    ):
        monkeypatch.setattr(
            open_clip.factory, name, kind(getattr(open_clip.factory, name))
        )


@pytest.fixture
def converted(tiny_model, tmp_path):
    """A converted tiny model, beside its source."""
    source, out = tmp_path / 'source.safetensors', tmp_path / 'clip.pth'
    save_file(tiny_model.model.state_dict(), source)
    write_checkpoint(
        convert_source(str(tiny_model.config), str(source))[0], out
    )
    return out


def pasted(printed):
    """The model that the printed Python makes."""
    code = printed.split('use it in Python as:\n\n')[1].split('\nwrote ')[0]
    scope: dict = {}
    exec(code, scope)  # what we print for users to run
    return scope['model'].eval()


@pytest.mark.parametrize(
    'line',
    [
        'tower.pt',
        'tower.safetensors',
        'whole.pt --base source.safetensors',
        'timm.pt --to timm',
        "it's.safetensors --to timm",
        'folder --to hf',
    ],
)
def test_what_is_printed_can_be_pasted(
    converted, tiny_model, tmp_path, call, line
):
    printed = call(main, 'clip.pth', *line.split()).out
    assert printed.endswith(
        f'next: mmclip inspect {shlex.quote(line.split()[0])}\n'
    )
    model, x = pasted(printed), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = tiny_model.model.encode_image(x)
        ours = getattr(model, 'visual', model)(x)
    ours = getattr(ours, 'image_embeds', ours)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE


def test_there_and_back_is_bit_identical(
    converted, tiny_model, tmp_path, call
):
    out = tmp_path / 'back.safetensors'
    call(main, 'clip.pth', out, '--base', 'source.safetensors')
    weights = load_file(out)
    original = tiny_model.model.state_dict()
    assert set(weights) == set(original)
    assert all(torch.equal(weights[key], original[key]) for key in original)


def test_a_folder_for_hugging_face(converted, tiny_model, tmp_path, call):
    transformers = pytest.importorskip('transformers')
    assert call(main, 'clip.pth', 'folder', '--to', 'hf').code == 0
    folder = tmp_path / 'folder'
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder)
    processor = json.loads((folder / 'preprocessor_config.json').read_text())
    assert processor['crop_size'] == dict(height=32, width=32)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours = model.eval()(x).image_embeds
        wanted = tiny_model.model.encode_image(x)
    assert relative_difference(ours, wanted) <= RELATIVE_TOLERANCE


def test_a_fine_tuned_classifier_for_timm(project, call):
    weights = write_random(project, 'x.pth', 0)
    printed = call(main, 'x.pth', 'timm.safetensors', '--to', 'timm').out
    theirs = pasted(printed)
    ours = MODELS.build(load_config(project / 'config.py').model)
    ours.load_state_dict(weights)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        difference = relative_difference(theirs.eval()(x), ours.eval()(x))
    assert difference <= RELATIVE_TOLERANCE


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('missing.pth', 'x.pt'), 'missing.pth does not exist'),
        (('source.pt', 'x.pt'), "no meta['clip']"),
        (('x.pth', 'x', '--to', 'hf', '--base', 'source.pt'), 'needs --to'),
        (('x.pth', 'x.pth', '--to', 'hf', '--force'), 'x.pth is a file'),
        (('x.pth', 'x.pt', '--to', 'hf'), 'x.pt is the name of a file'),
        (('x.pth', 'x.pth/y', '--to', 'hf'), 'x.pth/y cannot be written to'),
    ],
)
def test_errors_are_one_sentence_and_leave_no_file(
    tiny_model, tmp_path, monkeypatch, call, arguments, message
):
    monkeypatch.chdir(tmp_path)
    torch.save(tiny_model.model.state_dict(), 'source.pt')
    write_checkpoint(
        convert_source(str(tiny_model.config), 'source.pt')[0], 'x.pth'
    )
    result = call(main, *arguments)
    assert result.code == 1
    assert result.err.startswith('error: ')
    assert message in result.err
    assert result.err.count('\n') == 1
    assert not Path('x.pt').exists() and not Path('x').exists()
