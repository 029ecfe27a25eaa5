"""How far to go from the start to the tuned weights (arXiv 2109.01903)."""

from collections.abc import Mapping

from mmengine.runner import Runner
from torch import Tensor

from mmclip.adapting.run_files.config_file import METRICS
from mmclip.averaging.average import interpolate
from mmclip.averaging.weight_space import WeightTester

ALPHA = 0.5  # the paper's, where no images are held out to choose it by
ALPHAS = (0.25, 0.5, 0.75, 1.0)


def choose_alpha(
    runner: Runner, light: Mapping[str, Tensor], tuned: Mapping[str, Tensor]
) -> float:
    """Choose WiSE-FT's alpha on the images held out.

    Ties go to the alpha nearest to the paper's default.

    Args:
        runner (Runner): What trained the weights.
        light (Mapping): The weights of the start.
        tuned (Mapping): The weights of the training.
    """
    cfg = runner.cfg
    metric = METRICS['several_labels' in cfg.val_dataloader.dataset]
    test = WeightTester(
        runner, dict(val=(cfg.val_dataloader, cfg.val_evaluator)), metric
    )
    weights = (interpolate(light, tuned, alpha) for alpha in ALPHAS)
    scores = dict(zip(ALPHAS, test.each(weights), strict=True))
    return max(ALPHAS, key=lambda a: (scores[a]['val'], -abs(a - ALPHA)))
