"""An output is refused before the inputs, which do not exist, are read."""

from importlib import import_module

import pytest

EXISTS = 'exists; pass --force to overwrite it.'


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('convert no.json no.pth old.pth', f'old.pth {EXISTS}'),
        ('export no.pth old.pth', f'old.pth {EXISTS}'),
        ('flyp_to_classifier no.py no.pth old.pth', f'old.pth {EXISTS}'),
        ('merge_lora no.py no.pth old.pth', f'old.pth {EXISTS}'),
        ('merge_lora no.py no.pth x.pth', f'x.py {EXISTS}'),  # its config
        ('soup no.pth nor.pth --out old.pth', f'old.pth {EXISTS}'),
        (
            'interpolate no.pth nor.pth --config no.py --out old.pth',
            f'old.pth {EXISTS}',
        ),
        ('zero_shot no.json no.pth old.pth', f'old.pth {EXISTS}'),
        # Its inputs must exist, since this is looked at first.
        ('test x.py old.pth --out old.pkl', f'old.pkl {EXISTS}'),
        # How, is the same of all.
        (
            'convert no.json no.pth folder.pth',
            'folder.pth is a folder. Give a file.',
        ),
        (
            'convert no.json no.pth old.pth/new/x.pth',
            'old.pth/new cannot be written to (Not a directory). Choose '
            'another folder.',
        ),
        (
            'convert no.json no.pth x.onnx',
            'x.onnx must end in one of .pt, .pth, .bin, .safetensors, which '
            'sets the format.',
        ),
    ],
)
def test_an_output_is_refused_first(tmp_path, exit_message, line, message):
    (tmp_path / 'old.pth').write_text('old')
    (tmp_path / 'old.pkl').write_text('old')
    (tmp_path / 'x.py').write_text('old')
    (tmp_path / 'folder.pth').mkdir()
    name, *arguments = line.split()
    main = import_module(f'mmclip.commands.{name}').main
    assert exit_message(main, *arguments) == f'error: {message}'


@pytest.mark.parametrize(
    'line',
    [
        'convert no.json old.pth old.pth',
        'convert old.pth no.pth link.pth',
        'convert no.json folder folder/model.safetensors',
        'export old.pth old.pth',
        'export no.pth old.pth --base old.pth',
        'export folder/model.safetensors folder --to hf',
        'flyp_to_classifier no.py old.pth old.pth',
        'merge_lora no.py old.pth old.pth',
        'merge_lora x.py no.pth x.pth',  # x.py is its config, too
        'soup no.pth old.pth --out old.pth',
        'interpolate no.pth old.pth --config no.py --out old.pth',
        'zero_shot no.json old.pth old.pth',
        'probe config.py old/linear_probe.pth --work-dir old',
        'test config.json old.pth --out config.json --out-item metrics',
    ],
)
def test_an_input_is_kept_even_with_force(project, exit_message, line):
    for name in ('old.pth', 'x.py', 'config.json'):
        (project / name).write_text('old')
    (project / 'link.pth').symlink_to('old.pth')
    for name in ('folder/model.safetensors', 'old/linear_probe.pth'):
        (project / name).parent.mkdir()
        (project / name).write_text('old')
    name, *arguments = line.split()
    main = import_module(f'mmclip.commands.{name}').main
    said = exit_message(main, *arguments, '--force')
    assert ' would overwrite an input, ' in said
