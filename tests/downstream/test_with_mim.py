"""mim's commands, which find configs and tools in installed packages."""

import pytest

from tests.downstream.test_mmseg import LINEAR, QUICK

# As mim's own program calls them.
MIM = 'import sys; from mim.commands.{} import cli; cli(sys.argv[1:])'


@pytest.mark.parametrize('package', ['mmseg', 'mmclip'])
def test_mim_trains_and_tests(package, run, ran):
    small = run(LINEAR, QUICK)

    def mim(command, *words):
        small('-c', MIM.format(command), package, 'small.py', *words)

    mim('train', '--gpus', '0', '--work-dir', 'work')
    checkpoint = 'work/iter_4.pth'
    assert small.load(checkpoint)['state_dict']
    mim('test', '--checkpoint', checkpoint, '--gpus', '0')
    ran('mmseg', 'linear probe', f'mim train {package}, mim test {package}')
