"""What stays in the folder of a run, and where."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.checkpoint.files.paths import check_folder
from mmclip.errors import CheckpointError, DataError


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

    def check_free(self, *, force: bool) -> None:
        """Refuse a folder that cannot be written, or has a finished run.

        An unfinished one is continued.

        Args:
            force (bool): Whether a finished run may be replaced.

        Raises:
            CheckpointError: If so.
        """
        check_folder(self.path)
        if self.metrics.exists() and not force:
            raise CheckpointError(
                f'{self.path} has a finished run; pass --force to replace it, '
                'or another folder with --out.'
            )

    def write_metrics(self, numbers: dict[str, Any]) -> None:
        """Write all numbers as JSON."""
        text = json.dumps(numbers, indent=2, ensure_ascii=False)
        write_text(self.metrics, text + '\n')

    def read_metrics(self) -> dict[str, Any]:
        """Read the numbers of a finished run.

        Raises:
            DataError: If the run is not finished, or the file is damaged.
        """
        if not self.metrics.is_file():
            raise DataError(
                f'{self.path} is not the folder of a finished run: it has no '
                f'{self.metrics.name}. Make one with: mmclip adapt IMAGES '
                f'--out {self.path}'
            )
        try:
            return json.loads(self.metrics.read_text(encoding='utf-8'))
        except ValueError as error:
            raise DataError(f'{self.metrics} is damaged: {error}.') from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
