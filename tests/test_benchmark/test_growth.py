"""How costs grow: the table and its powers."""

import pytest

from mmclip.benchmark import growth
from mmclip.benchmark.growth import CHOICES, Growth, plot_growths, to_table


def test_powers_are_those_between_neighbours(tmp_path):
    found = Growth('work, images', [1, 2, 4], [1.0, 2.0, 8.0], [2**20] * 3)
    assert found.powers() == pytest.approx([1, 2])
    table = to_table([found])
    assert '| work, images | ' in table and '1.00 |' in table
    assert table.count('2.00 |') == 1
    plot_growths([found], tmp_path / 'growth.png')
    assert (tmp_path / 'growth.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.slow
def test_every_choice_is_measured(monkeypatch, capsys, tmp_path):
    from mmclip.commands.bench import main

    tower = dict(width=16, depth=2, num_heads=2)
    monkeypatch.setattr(growth, 'TOWER', tower)
    choices = {key: (what, (16, 32)) for key, (what, _) in CHOICES.items()}
    choices['depth'] = ('blocks', (1, 2))
    for name, value in dict(
        CHOICES=choices,
        SIDE=32,
        LARGE=64,
        SIDES=(64, 80),
        WINDOW=2,
        CLASSES=(2, 3),
        MORE_SHOTS=(2, 4),
    ).items():
        monkeypatch.setattr(growth, name, value)
    monkeypatch.setattr('mmclip.benchmark.gpu.LOADED', 8)
    json = tmp_path / 'growth.json'
    line = ['growth', '--rounds', '1', '--device', 'cpu', '--json', str(json)]
    assert main(line) == 0
    printed = capsys.readouterr().out
    for part in (
        'inference, images of a batch',
        'training, pixels of a side',
        'training at 64 px, blocks, with_cp=True',
        'a side, window_size=2',
        '512 photos, workers',
        'a probe of 2 classes, images',
        'a probe of 20 images per class, classes',
    ):
        assert part in printed
    assert json.read_text().count('"what"') == 15
