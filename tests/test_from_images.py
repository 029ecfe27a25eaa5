import subprocess
import sys
from pathlib import Path

import pytest

import mmclip
from mmclip.errors import ArgumentError, CheckpointError
from tests.test_adapting.conftest import save_photos

REFUSED = """
import sys
from pathlib import Path
from mmclip.commands.adapt import main

code = main({arguments!r})
print(code, [name for name in ('torch', 'mmengine') if name in sys.modules])
"""


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['empty'], 'has no images'),
        (['one'], 'one class only'),
        (['table.csv'], 'column'),
        (['photos', '--recipe=lite'], "did you mean 'light'"),
        (['photos', '--model=ViT-B-23/openai'], "did you mean 'ViT-B-32'"),
        (['photos', '--out=done'], 'has a finished run'),
    ],
)
def test_what_is_wrong_is_said_before_torch_is_imported(
    tmp_path, arguments, said
):
    save_photos(tmp_path / 'photos', number=2, size=8)
    save_photos(tmp_path / 'one', number=2, size=8)
    for name in ('red', 'blue'):
        (tmp_path / 'one' / name).rename(tmp_path / f'{name} elsewhere')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'table.csv').write_text('a,b\n1,2\n')
    (tmp_path / 'done').mkdir()
    for name in ('train.log', 'metrics.json'):
        (tmp_path / 'done' / name).touch()
    done = subprocess.run(
        [sys.executable, '-c', REFUSED.format(arguments=arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert said in done.stderr
    assert done.stdout.split(maxsplit=1)[1] == '[]\n'


def test_an_unknown_recipe_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="did you mean 'light'"):
        mmclip.adapt(tmp_path, tmp_path / 'run', recipe='lite')


@pytest.mark.parametrize('builds_on_it', [False, True])
def test_the_config_of_a_run_is_not_replaced_by_what_it_makes(
    tmp_path, builds_on_it
):
    photos = save_photos(tmp_path / 'photos', number=2, size=8)
    run = tmp_path / 'run'
    run.mkdir()
    for name in ('train.log', 'metrics.json', 'config.py'):
        (run / name).touch()
    config = str(run / 'config.py')
    if builds_on_it:
        config = str(tmp_path / 'mine.py')
        Path(config).write_text("_base_ = ['run/config.py']")
    with pytest.raises(CheckpointError, match=r'config\.py would be overwr'):
        mmclip.adapt(photos, run, recipe=config, force=True)
