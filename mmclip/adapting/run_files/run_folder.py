"""What stays in the folder of a run, and where."""

import json
import re
import shlex
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.checkpoint.files.paths import check_folder
from mmclip.errors import CheckpointError, DataError
from mmclip.untrusted.rules import read_json

# How each line of a log begins: with a time and a level.
LOGGED = re.compile(r'\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ')
MOST_BYTES = 2**27  # of JSON: places on the map for three million images


@dataclass(frozen=True)
class RunFolder:
    """The paths in the folder of ``mmclip adapt``.

    Args:
        path (Path): The folder.
    """

    path: Path

    @property
    def model(self) -> Path:
        """The classifier, which describes itself."""
        return self.path / 'model.safetensors'

    @property
    def config(self) -> Path:
        """The config that trains and tests with the ordinary runners."""
        return self.path / 'config.py'

    @property
    def classes(self) -> Path:
        """Class names, one per line."""
        return self.path / 'classes.txt'

    @property
    def split(self) -> Path:
        """The table of all images."""
        return self.path / 'split.csv'

    @property
    def images(self) -> Path:
        """Images that the source has inside other files."""
        return self.path / 'images'

    @property
    def predictions(self) -> Path:
        """An answer per image of the validation and test sets."""
        return self.path / 'predictions.csv'

    @property
    def metrics(self) -> Path:
        """All numbers; it is written last, so it marks a finished run."""
        return self.path / 'metrics.json'

    @property
    def log(self) -> Path:
        """The log."""
        return self.path / 'train.log'

    @property
    def features(self) -> Path:
        """The cached features."""
        return self.path / 'features'

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / 'report.html'

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / 'README.md'

    @property
    def replaced(self) -> Path:
        """The folder of a finished run, until the next one is finished."""
        return self.path / 'replaced'

    @property
    def tuning(self) -> Path:
        """The folder of fine-tuning."""
        return self.path / 'tuning'

    @property
    def results(self) -> list[Path]:
        """The files of a run; the first marks a finished one."""
        return [
            self.metrics,
            self.model,
            self.config,
            self.classes,
            self.split,
            self.predictions,
            self.card,
            self.report,
        ]

    def check_free(
        self,
        folders: Collection[Path],
        files: Collection[Path],
        *,
        force: bool,
    ) -> None:
        """Refuse a folder that must not, or cannot, be written.

        An unfinished run is continued.

        Args:
            folders (Collection[Path]): Images, in folders or tables.
            files (Collection[Path]): What else the run is made of.
            force (bool): Whether a finished run may be replaced.

        Raises:
            CheckpointError: If it has a finished run or files of the user, is
                among the images, or cannot be written to.
        """
        out = self.path.resolve()
        for given in folders:
            path = given.resolve()
            if path.is_dir() and path in (out, *out.parents):
                raise CheckpointError(
                    f'{self.path} would be among the images in {given}: add '
                    '--out '
                    + shlex.quote(str(path.parent / 'runs' / path.name))
                )
        results = [path.resolve() for path in self.results]
        for given in (*folders, *files):
            if given.resolve() in results:
                raise CheckpointError(
                    f'{given} would be overwritten: give another folder than '
                    f'{self.path} with --out.'
                )
        check_folder(self.path)
        if not self._has_log():
            made = (*self.results, self.features, self.replaced, self.tuning)
            made += (self.log,)
            if theirs := [path.name for path in made if path.exists()]:
                raise CheckpointError(
                    f'{self.path} has files that are not of a run, such as '
                    f'{theirs[0]}: give another folder with --out.'
                )
        elif self.metrics.exists() and not force:
            raise CheckpointError(
                f'{self.path} has a finished run; pass --force to replace it, '
                'or another folder with --out.'
            )

    def _has_log(self) -> bool:
        """Return whether there is a log, and it begins like one of a run."""
        if not self.log.is_file():
            return False
        with open(self.log, encoding='utf-8', errors='replace') as file:
            first = file.readline()
        return not first or bool(LOGGED.match(first))

    def begin(self) -> None:
        """Create the folder, and set aside what an earlier run says there.

        A finished run is in ``replaced`` until :meth:`end`. Its log and its
        features stay.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.log.touch()  # it marks the folder as one of a run
        if is_finished := self.metrics.exists():
            self.replaced.mkdir(exist_ok=True)
        for path in reversed(self.results):  # finished until the last one
            if is_finished and path.exists():
                path.replace(self.replaced / path.name)
            path.unlink(missing_ok=True)

    def end(self) -> None:
        """Remove what a finished run does not need.

        That is the run that it replaced, and the cached features if they take
        more room than the model: they only make the next run quicker.
        """
        for path in RunFolder(self.replaced).results:
            path.unlink(missing_ok=True)
        if self.replaced.is_dir() and not any(self.replaced.iterdir()):
            self.replaced.rmdir()
        files = [p for p in self.features.rglob('*') if p.is_file()]
        size = sum(path.stat().st_size for path in files)
        if size > self.model.stat().st_size:
            shutil.rmtree(self.features)

    def write_metrics(self, numbers: dict[str, Any]) -> None:
        """Write all numbers as JSON."""
        text = json.dumps(numbers, indent=2, ensure_ascii=False)
        write_text(self.metrics, text + '\n')

    def check_finished(self) -> None:
        """Refuse what is not the folder of a finished run.

        Raises:
            DataError: If it is not.
        """
        if self.metrics.is_file():
            return
        step = (
            f'The run before it is in {self.replaced}.'
            if RunFolder(self.replaced).metrics.is_file()
            else f'Make one with: mmclip adapt IMAGES --out {self.path}'
        )
        raise DataError(
            f'{self.path} is not the folder of a finished run: it has no '
            f'{self.metrics.name}. {step}'
        )

    def read_metrics(self) -> dict[str, Any]:
        """Read the numbers of a finished run.

        Raises:
            DataError: If the run is not finished, or the file is damaged.
        """
        self.check_finished()
        try:
            return read_json(self.metrics, MOST_BYTES)
        except CheckpointError as error:
            raise DataError(f'The run is damaged: {error}') from None


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
