import subprocess
import sys

import pytest

import mmclip
from mmclip.errors import ArgumentError
from tests.test_adapting.conftest import save_photos

REFUSED = """
import sys
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
