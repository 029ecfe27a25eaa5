"""Soups of random weights, validated on a few images."""

import contextlib
import sys

import pytest
import torch

from mmclip.averaging import weight_space
from mmclip.checkpoint import read_checkpoint
from mmclip.commands.soup import main
from tests.conftest import largest_file
from tests.test_commands.weights import load_in_this_process, write_random

NAMES = ('a.pth', 'b.pth', 'c.pth')


@pytest.fixture
def ingredients(project):
    load_in_this_process(project)
    return {
        name: write_random(project, name, i) for i, name in enumerate(NAMES)
    }


@pytest.fixture
def soup(ingredients, call):
    """Make a soup in this process; returns all that is printed."""

    def _soup(*arguments):
        result = call(main, '--out', 'soup.pth', *arguments)
        return result.out + result.err

    return _soup


def test_a_uniform_soup_is_the_mean(project, soup, ingredients):
    printed = soup(*NAMES)
    assert 'wrote soup.pth (the mean of 3 checkpoints)' in printed
    assert printed.endswith('next: mmclip test CONFIG soup.pth\n')
    made = read_checkpoint(project / 'soup.pth')
    assert made['meta']['averaged'] == dict.fromkeys(NAMES, 1 / 3)
    for key, tensor in made['state_dict'].items():
        values = torch.stack([w[key] for w in ingredients.values()])
        torch.testing.assert_close(tensor, values.mean(0))


def test_the_averaged_weights_of_a_run_with_ema_are_taken(
    project, soup, ingredients
):
    first = ingredients['a.pth']
    ema = {f'module.{key}': tensor + 1 for key, tensor in first.items()}
    write_random(project, 'a.pth', 0, ema_state_dict=ema, optimizer={})
    soup('a.pth', 'b.pth')
    made = read_checkpoint(project / 'soup.pth')
    assert made.keys() == {'meta', 'state_dict'}
    for key, tensor in made['state_dict'].items():
        wanted = (first[key] + ingredients['b.pth'][key]) / 2
        torch.testing.assert_close(tensor, wanted)


def test_a_greedy_soup_keeps_those_that_do_not_make_it_worse(project, call):
    """Each always says one class, and most of the images are red."""
    load_in_this_process(project)
    for name in ('blue/0', 'blue/1', 'green/0', 'green/1', 'green/2'):
        (project / 'images' / f'{name}.png').unlink()
    says = {
        'blue.pth': [9e6, 0.0, 0.0],  # so loudly that it drowns the others
        'red.pth': [0.0, 0.0, 1e6],
        'twin.pth': [0.0, 0.0, 1e6],
    }
    for name, bias in says.items():
        checkpoint = dict(state_dict=write_random(project, name, 0))
        checkpoint['state_dict']['head.fc.bias'] = torch.tensor(bias)
        torch.save(checkpoint, project / name)
    more = ['--method', 'greedy', '--config', 'config.py']
    printed = call(main, *says, *more, '--out', 'soup.pth').out
    assert (
        '| checkpoint | alone | soup with it | kept                |\n'
        '| :--------- | ----: | -----------: | :------------------ |\n'
        '| red.pth    |  57.1 |         57.1 | yes: the best alone |\n'
        '| twin.pth   |  57.1 |         57.1 | yes: 57.1 before    |\n'
        '| blue.pth   |  28.6 |         28.6 | no: 57.1 before     |\n'
    ) in printed
    assert 'validation set is its test set' in printed
    made = read_checkpoint(project / 'soup.pth')
    assert made['meta']['averaged'] == {'red.pth': 0.5, 'twin.pth': 0.5}
    torch.testing.assert_close(
        made['state_dict'], checkpoint['state_dict'], rtol=0, atol=0
    )


def test_of_a_greedy_soup_one_may_be_left(project, call, monkeypatch):
    load_in_this_process(project)
    for i, name in enumerate(('a.pth', 'b.pth')):
        write_random(project, name, i)
    scores = iter([2.0, 1.0, 0.0])  # alone, and together
    monkeypatch.setattr(
        weight_space,
        'evaluate_each',
        lambda *_: [{'accuracy/top1': next(scores)}],
    )
    more = ('--method', 'greedy', '--config', 'config.py', '--out', 'x.pth')
    printed = call(main, 'a.pth', 'b.pth', *more).out
    assert (
        'wrote x.pth (the weights of a.pth: no other made them better)'
    ) in printed
    more = (*more, '--force', '--metric', 'acc')  # before any is tested
    assert (
        "called 'acc'; it has: accuracy/top1"
        in call(main, 'a.pth', 'b.pth', *more).err
    )


def test_a_uniform_soup_is_validated_with_a_config(soup):
    with contextlib.redirect_stderr(sys.stdout):  # in the order of a terminal
        printed = soup(*NAMES, '--config', 'config.py')
    assert '\nvalidation: ' in printed
    assert printed.endswith('next: mmclip test config.py soup.pth\n')


def test_one_that_does_not_fit_is_named(project, soup):
    write_random(project, 'c.pth', 2, act='gelu')
    printed = soup(*NAMES)
    assert 'a.pth and c.pth cannot be averaged' in printed
    assert "act: first 'quick_gelu', second 'gelu'" in printed
    assert '--same-classes' not in printed
    assert not (project / 'soup.pth').exists()


def test_classes_in_another_order_than_the_data_are_refused(project, soup):
    for seed, name in enumerate(NAMES):
        write_random(project, name, seed, classes=('red', 'green', 'blue'))
    printed = soup(*NAMES, '--config', 'config.py')
    assert (
        'error: The classes of the test set and of the checkpoint' in printed
    )
    assert not (project / 'soup.pth').exists()


def test_other_names_of_the_classes_may_mean_the_same(project, soup):
    write_random(project, 'c.pth', 2, classes=('0', '1', '2'))
    assert 'in the same order, pass --same-classes.' in soup(*NAMES)
    assert 'the mean of 3 checkpoints' in soup(*NAMES, '--same-classes')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['a.pth'], 'two or more different'),
        (['a.pth', 'b.pth', 'a.pth'], 'two or more different'),
        (['a.pth', './a.pth'], 'two or more different'),
        (['a.pth', 'b.pth', '--method', 'greedy'], 'needs --config'),
        (['a.pth', 'missing.pth'], 'missing.pth does not exist'),
        (
            ['a.pth', 'b.pth', '--config', 'config.py', '--metric', 'top9'],
            "error: 0 metrics of val are called 'top9'; it has: accuracy/",
        ),
        (
            [
                *('a.pth', 'b.pth', '--config', 'config.py'),
                *('--work-dir', 'config.py'),
            ],
            'config.py cannot be written to',
        ),
        (
            ['a.pth', 'b.pth', '--config', 'no_val.py'],
            'no_val.py has no val_dataloader and no val_evaluator',
        ),
        (
            [
                *('a.pth', 'b.pth', '--config', 'config.py'),
                *('--cfg-options', 'val_dataloder.a=1'),
            ],
            "'val_dataloder' (did you mean 'val_dataloader'?)",
        ),
    ],
)
def test_what_is_wrong_is_named(project, soup, arguments, message):
    (project / 'no_val.py').write_text(
        "_base_ = ['config.py']\n"
        'val_dataloader = val_evaluator = val_cfg = None\n'
    )
    assert message in soup(*arguments)


def test_a_file_that_exists_is_overwritten_with_force(project, soup):
    (project / 'soup.pth').write_text('old')
    assert 'wrote' in soup(*NAMES, '--force')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_disk_that_is_full_is_one_sentence(project, soup, suffix):
    with largest_file(10_000):
        said = soup(*NAMES, '--out', f'full{suffix}')
    assert said.splitlines()[-1].startswith('error: ')
    assert f'full{suffix} could not be written' in said
    assert not (project / f'full{suffix}').exists()
