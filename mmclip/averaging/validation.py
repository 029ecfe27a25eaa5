"""The score of weights on the validation set of a config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor
from tqdm import tqdm

from mmclip.averaging.weight_space import WeightTester
from mmclip.checkpoint.files.paths import check_folder
from mmclip.evaluation import build_test_runner, tell_classes


class Validation:
    """Tests weights of one model on the validation set of its config.

    Args:
        cfg (Config): With ``val_dataloader`` and ``val_evaluator``.
        checkpoints (Mapping): Of which the weights are made, by path.
        metric (str): What counts, such as ``'top1'``.

    Raises:
        CheckpointError: If one does not fit the model of the config.
    """

    def __init__(
        self, cfg: Config, checkpoints: Mapping[str, Any], metric: str
    ):
        check_folder(Path(cfg.work_dir))
        cfg.log_level = 'WARNING'  # the table says it all
        runner = build_test_runner(cfg)
        for path, checkpoint in reversed(list(checkpoints.items())):
            tell_classes(runner, checkpoint, path)
        data = (runner.cfg.val_dataloader, runner.cfg.val_evaluator)
        self._test = WeightTester(runner, dict(val=data), metric)
        self._progress = tqdm(unit='validation')

    def __call__(self, state_dict: Mapping[str, Tensor]) -> float:
        """Test weights, and show that it was done."""
        score = self._test(state_dict)['val']
        self._progress.update()
        return score

    def __enter__(self) -> 'Validation':
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the progress bar, before anything else is printed."""
        self._progress.close()
