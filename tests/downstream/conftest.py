"""What the tests of other packages share, and the table of what ran."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.downstream import made_data, programs
from tests.downstream.shrunken import CONFIGS, shrunken

MAKERS = dict(
    ade=('ade/ADEChallengeData2016', made_data.make_ade20k),
    voc=('VOCdevkit/VOC2012', made_data.make_voc),
    cityscapes=('cityscapes', made_data.make_cityscapes),
    coco=('coco', made_data.make_coco),
)
RAN = 'ran'  # a property of a test: package, config or part, what was done
HEAD = """\
# What ran where

`make test-downstream` makes this table of what passed: on a CPU, for a few
iterations on made-up images, with small backbones of random weights and
{operators} operators of mmcv. "Ours" are `tools/train.py` and
`tools/test.py` of mmclip, "theirs" those of the package.

| package | config or part | what ran |
| :-- | :-- | :-- |
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--table', type=Path, help='a Markdown file to write')


def pytest_configure(config: pytest.Config) -> None:
    programs.prepare()
    if not hasattr(config, 'workerinput'):  # pytest-xdist's
        config.pluginmanager.register(Table(config.getoption('--table')))


class Table:
    """Gathers what passed, in the process that reports."""

    def __init__(self, path: Path | None):
        self.path = path
        self.rows: dict[tuple[str, str], list[str]] = {}
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed
        if report.when == 'call' and report.passed:
            for name, value in report.user_properties:
                if name == RAN:
                    package, part, what = value
                    done = self.rows.setdefault((package, part), [])
                    if what not in done:
                        done.append(what)

    def pytest_sessionfinish(self) -> None:
        if self.path and self.rows and not self.failed:
            lines = [
                f'| {package} | {part} | {"; ".join(sorted(done))} |\n'
                for (package, part), done in sorted(self.rows.items())
            ]
            is_stand_in = find_spec('mmcv._ext').origin.endswith('.py')
            operators = 'a stand-in for' if is_stand_in else 'the real'
            head = HEAD.format(operators=operators)
            self.path.write_text(head + ''.join(lines))


@pytest.fixture(scope='session')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``data`` with all data sets where the configs look for it."""
    folder = tmp_path_factory.mktemp('made')
    for name, make in MAKERS.values():
        make(folder / 'data' / name)
    return folder


@pytest.fixture
def ran(record_property) -> Any:
    """Notes a row of the table; it counts if the test passes."""

    def note(package: str, part: str, what: str) -> None:
        version = importlib.import_module(package).__version__
        record_property(RAN, (f'{package} {version}', part, what))

    return note


@dataclass
class Run:
    """A folder in which commands run as a user types them."""

    folder: Path
    config: Path

    def __call__(self, *words: Any) -> str:
        """Run Python with these words, and return what it printed."""
        log = self.folder / 'printed.txt'
        code = programs.run([*map(str, words)], self.folder, log)
        printed = log.read_text()
        assert code == 0, f'{words}: {code}\n{printed[-6000:]}'
        return printed

    def train(self, *words: Any, tool: str = 'mmclip') -> str:
        return self(*command(tool, 'train'), self.config, *words)

    def test(self, checkpoint: Any, *words: Any, tool: str = 'mmclip') -> str:
        return self(*command(tool, 'test'), self.config, checkpoint, *words)

    def load(self, name: str) -> dict[str, Any]:
        from mmclip.checkpoint import read_checkpoint

        return read_checkpoint(self.folder / name)

    def resumes(self, unit: str, half: int, end: int) -> tuple[dict, set[str]]:
        """Train in one go and in two halves, which must end alike.

        Returns:
            tuple[dict, set[str]]: All tensors, and which of them moved in the
            second half.
        """
        self.train('--work-dir', 'whole')
        option = f'train_cfg.max_{unit}s={half}'
        self.train('--work-dir', 'half', '--cfg-options', option)
        self.train('--work-dir', 'half', '--resume')
        started, whole, resumed = (
            weights(self.load(f'{path}.pth'))
            for path in (
                f'whole/{unit}_{half}',
                f'whole/{unit}_{end}',
                f'half/{unit}_{end}',
            )
        )
        assert whole.keys() == resumed.keys()
        differ = [k for k in whole if not torch.equal(whole[k], resumed[k])]
        assert not differ
        moved = {k for k in whole if not torch.equal(whole[k], started[k])}
        return whole, moved


def command(tool: str, name: str) -> list[str]:
    """Our command, or a package's own tool."""
    if tool == 'mmclip':
        return ['-m', 'mmclip', name]
    package = Path(importlib.import_module(tool).__file__).parent
    return [str(package / '.mim' / 'tools' / f'{name}.py')]


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Any:
    """Makes a folder with a config that is small; see ``shrunken``."""

    def make(name: str, more: str = '') -> Run:
        (tmp_path / 'data').symlink_to(data / 'data')
        config = tmp_path / 'small.py'
        config.write_text(shrunken(CONFIGS / f'{name}.py') + more)
        return Run(tmp_path, config)

    return make


def weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """All tensors of weights, averages and optimizer, by their places.

    The message hub, with the times of iterations, is left out.
    """

    def gather(part: Any, place: str) -> Iterator[tuple[str, torch.Tensor]]:
        if isinstance(part, torch.Tensor):
            yield place, part
        elif isinstance(part, dict):
            for key, value in part.items():
                yield from gather(value, f'{place}.{key}')
        elif isinstance(part, list | tuple):
            for i, value in enumerate(part):
                yield from gather(value, f'{place}.{i}')

    parts = ('state_dict', 'ema_state_dict', 'optimizer')
    return dict(gather({part: checkpoint.get(part) for part in parts}, ''))
