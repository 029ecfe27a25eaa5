"""`mmclip bench`: tables, numbers and a picture."""

import json
import sys

import pytest

from mmclip import cli
from mmclip.benchmark import programs
from mmclip.commands.bench import PEERS, main


def test_table_numbers_and_picture(tmp_path, capsys):
    json_file, picture = tmp_path / 'bench.json', tmp_path / 'bench.png'
    line = ['train', '--cases', 'tiny:1', '--rounds', '2', '--precision']
    line += ['fp32', '--only', 'timm', '--device', 'cpu']
    outs = ['--json', str(json_file), '--plot', str(picture)]
    assert main([*line, *outs]) == 0
    printed = capsys.readouterr().out
    assert '**tiny, training, batch 1, fp32** (2 rounds count' in printed
    rows = json.loads(json_file.read_text())
    names = ['mmclip', 'timm', 'matrix product']
    assert [row['name'] for row in rows] == names
    for row in rows:
        assert f'| {row["name"]}' in printed
        assert f'{1000 * row["seconds"]:.4g}' in printed
        assert 0 < row['ratio_low'] <= row['ratio'] <= row['ratio_high']
    assert picture.read_bytes().startswith(b'\x89PNG')
    assert main([*line, *outs]) == 1  # neither is overwritten


@pytest.mark.slow  # open_clip's smallest model is made, read and written
def test_conversions_are_compared(monkeypatch):
    def run(line):
        """Run what a process would, in this one."""
        if line[1] == '-m':
            assert cli.main(line[3:]) == 0
        else:
            monkeypatch.setattr(sys, 'argv', ['-c', *line[3:]])
            exec(line[2], {})

    monkeypatch.setattr(programs, '_run', run)
    monkeypatch.setattr(programs, '_peak', run)
    (case,) = programs.convert_cases('ViT-S-32-alt')
    assert [entry.name for entry in case.entries] == ['mmclip', 'open_clip']
    assert case.entries[1].difference == 0


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        (['model', '--cases', 'ViT-B-16'], 'must be TOWER:BATCH'),
        (['model', '--cases', 'ViT-B-16:0'], 'must be TOWER:BATCH'),
        (['model', '--cases', 'ViT-B:1'], '--cases must be one of tiny'),
        (['tests'], "invalid choice: 'tests'"),
    ],
)
def test_wrong_arguments(capsys, line, said):
    assert main(line) == 2
    assert said in capsys.readouterr().err


def test_peers_that_can_be_chosen_are_those_that_there_are():
    from mmclip.benchmark import models, pipelines

    ours = {'mmclip', pipelines.FASTER}
    assert {*models.PEERS, *pipelines.PEERS} == {*PEERS, *ours}
