"""What is wrong with an input is one sentence, before anything slow."""

from importlib import import_module

import pytest
import torch

from tests.conftest import TinyModel
from tests.test_commands.weights import write_random

ZERO_SHOT = 'zero_shot ViT-S-32 empty.pth x.pth --tag none'


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (
            'convert a.pth ViT-S-32 x.pth',
            'a.pth is a file of weights. Give the model name or model config '
            'first, then the weights.',
        ),
        ('convert ViT-S-32 empty.pth x.pth', 'empty.pth is empty.'),
        (
            'inspect folder',
            'The folder folder has no weights (a file that ends in .pt, .pth, '
            '.bin, .safetensors).',
        ),
        (
            'inspect config.py',
            'config.py is a text file (a config?), not weights.',
        ),
        (
            'inspect folder/last_checkpoint',
            'folder/last_checkpoint only names a file of weights. Give it: '
            '/elsewhere/epoch_2.pth.',
        ),
        ('inspect a.pth --config no.py', 'Config no.py does not exist.'),
        (
            'inspect a.pth --verify ViT-S-32 no.pt',
            'Checkpoint no.pt does not exist.',
        ),
        (
            'export folder x.pth',
            'folder is a folder. Give a file of weights.',
        ),
        (
            'export a.pth x.pth --base no.pt',
            'Checkpoint no.pt does not exist.',
        ),
        (
            'soup no.pth nor.pth --out x.pth --config no.py',
            'Config no.py does not exist.',
        ),
        (
            'probe config.py openclip://ViT-S-32/openai',
            'openclip://ViT-S-32/openai is not a file, and openclip:// is '
            'none of open_clip://, timm://, hf-hub:, local-dir:, https:// '
            "(did you mean 'open_clip://'?).",
        ),
        (
            'probe config.py local-dir:no',
            'local-dir:no: The folder no does not exist.',
        ),
        (
            'merge_lora config.py folder x.pth',
            'folder is a folder. Give a file of weights.',
        ),
        (
            'flyp_to_classifier config.py folder x.pth',
            'folder is a folder. Give a file of weights.',
        ),
        (
            'convert tiny.json folder x.pth',
            'The folder folder has no weights (a file that ends in .pt, .pth, '
            '.bin, .safetensors).',
        ),
        (
            'train tiny.json',
            'tiny.json is a model config of open_clip or Hugging Face (it has '
            'embed_dim), not the config of a run. Convert its weights: mmclip '
            'convert tiny.json FILE OUT.pth.',
        ),
        (
            'train config.py --cfg-options train_cfg.max_iters=9',
            'config.py: train_cfg has both max_epochs=2 and max_iters=9, one '
            'of them inherited. Write train_cfg=dict(_delete_=True, ...) with '
            'only what it needs.',
        ),
        ('probe config.py no.pth', 'Checkpoint no.pth does not exist.'),
        (
            'test config.py tower.pth',
            'tower.pth: it is an image tower without a classifier. To train '
            "one, name the tower in the backbone's init_cfg "
            "(type='mmclip.PretrainedCLIP'); or make one with mmclip probe "
            'CONFIG tower.pth.',
        ),
        (
            f'{ZERO_SHOT} --templates names.txt',
            "names.txt: The template 'cat' must have one {} for the class and "
            'no other braces.',
        ),
        (
            f'{ZERO_SHOT} --data splits',
            'splits has train, val, which are splits, not classes. Give one '
            'of them: --data splits/val.',
        ),
        (f'{ZERO_SHOT} --classes no.txt', 'There is no text file no.txt.'),
        (
            f'{ZERO_SHOT} --classes folder',
            'folder is a folder. Give a text file.',
        ),
        (
            f'{ZERO_SHOT} --templates opnai',
            "There is no text file opnai (did you mean 'openai'?).",
        ),
        (
            f'{ZERO_SHOT} --data folder',
            'folder has no class folders. Give a folder with one folder per '
            'class as --data.',
        ),
    ],
)
def test_wrong_inputs(project, call, line, message):
    (project / 'folder').mkdir()
    (project / 'folder' / 'last_checkpoint').write_text(
        '/elsewhere/epoch_2.pth\n'
    )
    (project / 'empty.pth').touch()
    (project / 'names.txt').write_text('cat\ndog\n')
    (project / 'splits' / 'train').mkdir(parents=True)
    (project / 'splits' / 'val').mkdir()
    TinyModel.create(project / 'tiny.json')
    weights = write_random(project, 'a.pth', 0)
    tower = {k: v for k, v in weights.items() if k.startswith('backbone.')}
    torch.save(dict(state_dict=tower), project / 'tower.pth')
    name, *arguments = line.split()
    main = import_module(f'mmclip.commands.{name}').main
    result = call(main, *arguments)
    assert result.code in (1, 2)  # 2 if an argument is wrong
    assert result.err.splitlines()[-1] == f'error: {message}'
    assert not (project / 'x.pth').exists()


@pytest.mark.parametrize('name', ['model_page', 'zoo'])
def test_what_needs_a_checkout_says_so(
    project, exit_message, monkeypatch, name
):
    from mmclip.analysis import model_page

    monkeypatch.setattr(model_page, '__file__', str(project / 'a/b/c.py'))
    main = import_module(f'mmclip.commands.{name}').main
    said = exit_message(main)
    assert said.startswith('error: This needs a checkout of mmclip')
    assert '\n' not in said


def test_of_many_values_inspect_prints_one_per_line(project, call):
    write_random(project, 'a.pth', 0)
    checkpoint = torch.load(project / 'a.pth')
    names = [f'class {i}' for i in range(1000)]
    checkpoint['meta']['clip'] |= dict(
        classes=names, head=checkpoint['meta']['clip']['head']
    )
    torch.save(checkpoint, project / 'a.pth')
    main = import_module('mmclip.commands.inspect').main
    printed = call(main, 'a.pth').out
    assert '\n  backbone.arch.width: 32\n' in printed
    assert '\n  preprocess.mean: [0.5, 0.5, 0.5]\n' in printed
    assert max(map(len, printed.splitlines())) < 100
