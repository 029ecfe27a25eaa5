"""Testing of many sets of weights in one model, and a plot of the scores."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.checkpoint.finite import check_finite
from mmclip.checkpoint.state_dict import without_prefix
from mmclip.datasets.class_order import are_same_classes
from mmclip.errors import ArgumentError, CheckpointError, DataError
from mmclip.evaluation.evaluate import evaluate_each
from mmclip.markdown import markdown_table

MEMORY = 4 * 2**30  # bytes of the weights that are tested at a time
# By alpha, then by data set.
Curve = Mapping[float, Mapping[str, float]]


class WeightTester:
    """A function from weights to their score on each of several data sets.

    Args:
        runner (Runner): From :func:`mmclip.evaluation.build_test_runner`.
        data_sets (Mapping[str, tuple]): The configs of the dataloader and the
            evaluator, by name. Each dataloader is built once, here.
        metric (str): The score, such as ``'top1'``, with or without its
            prefix (``accuracy/``). Defaults to ``'top1'``.

    Raises:
        ArgumentError: If accuracies are measured, but none of this name.
        DataError: If two data sets have different classes.
    """

    def __init__(
        self,
        runner: Runner,
        data_sets: Mapping[str, tuple[dict[str, Any], Any]],
        metric: str = 'top1',
    ):
        self._runner = runner
        self._metric = metric
        self._data_sets = {
            name: (
                runner.build_dataloader(dataloader, seed=runner.seed),
                evaluator,
            )
            for name, (dataloader, evaluator) in data_sets.items()
        }
        _check_classes({k: v for k, (v, _) in self._data_sets.items()})
        for name, (_, evaluator) in self._data_sets.items():
            if known := _known_metrics(runner, evaluator):
                self._key(name, known)

    def __call__(self, state_dict: Mapping[str, Tensor]) -> dict[str, float]:
        """Load weights and test them on every data set.

        Args:
            state_dict (Mapping[str, Tensor]): Weights of the whole model.

        Returns:
            dict[str, float]: The score by data set.

        Raises:
            CheckpointError: If the weights do not fit the model.
            ArgumentError: If there is no such metric, or more than one.
        """
        return next(self.each([state_dict]))

    def each(
        self,
        state_dicts: Iterable[Mapping[str, Tensor]],
        progress: Callable[[int], object] | None = None,
    ) -> Iterator[dict[str, float]]:
        """Load and test several sets of weights, a few at a time.

        A few are as many as :data:`MEMORY` holds. Each image is loaded once
        for all of them.

        Args:
            state_dicts (Iterable): Weights as above; taken when needed.
            progress (Callable | None): Called with a number of batches when
                they have been tested; there are :attr:`num_batches` for each
                set of weights.

        Yields:
            dict[str, float]: The score by data set of each set of weights.

        Raises:
            CheckpointError: If weights do not fit the model.
            ArgumentError: If there is no such metric, or more than one.
        """
        bytes_of_model = sum(t.nbytes for t in _tensors(self._runner.model))
        remaining = iter(state_dicts)
        few = max(1, MEMORY // bytes_of_model)
        while states := [self._load(s) for s in islice(remaining, few)]:
            scores: list[dict[str, float]] = [{} for _ in states]
            for name, data in self._data_sets.items():
                found = evaluate_each(self._runner, *data, states, progress)
                for score, metrics in zip(scores, found, strict=True):
                    score[name] = float(metrics[self._key(name, metrics)])
            yield from scores

    @property
    def num_batches(self) -> int:
        """The number of batches of all data sets."""
        return sum(len(loader) for loader, _ in self._data_sets.values())

    def _load(self, state_dict: Mapping[str, Tensor]) -> Callable[[], None]:
        """Load weights into memory of their own, and return what puts them."""
        model = self._runner.model
        values = [tensor.detach().clone() for tensor in _tensors(model)]
        _put(model, values)
        load_weights(self._runner, state_dict)
        return partial(_put, model, values)

    def _key(self, name: str, metrics: Iterable[str]) -> str:
        found = [
            key
            for key in metrics
            if key == self._metric or key.endswith(f'/{self._metric}')
        ]
        if len(found) != 1:
            raise ArgumentError(
                f'{len(found)} metrics of {name} are called '
                f'{self._metric!r}; it has: {", ".join(metrics)}.'
            )
        return found[0]


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())


def _put(model: nn.Module, values: list[Tensor]) -> None:
    """Put values into a model, without copying them."""
    for tensor, value in zip(_tensors(model), values, strict=True):
        tensor.data = value


def load_weights(runner: Runner, state_dict: Mapping[str, Tensor]) -> None:
    """Load weights into a runner's model, all or none.

    Raises:
        CheckpointError: If keys or shapes differ; the message lists them.
    """
    model: Any = runner.model
    model = model.module if is_model_wrapper(model) else model
    check_finite(state_dict, 'The checkpoint', model)
    try:
        model.load_state_dict(without_prefix(state_dict, ''), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f'The weights do not fit the model of the config. {error}'
        ) from None


def parse_alphas(text: str) -> list[float]:
    """Read ``FIRST:LAST:STEP``, both ends included, or ``A,B,C``.

    Raises:
        ArgumentError: If it is neither, an alpha is not between 0 and 1, or
            STEP leads away from LAST.
    """
    steps = 0
    try:
        if ':' in text:
            first, last, step = map(float, text.split(':'))
            steps = math.floor((last - first) / step + 1e-6)
            # LAST itself, even if STEP does not divide the interval.
            alphas = [*(first + i * step for i in range(steps + 1)), last]
        else:
            alphas = [float(alpha) for alpha in text.split(',')]
    except (ValueError, ArithmeticError):
        raise ArgumentError(
            f'Alphas must be FIRST:LAST:STEP or A,B,C, such as 0:1:0.1; got '
            f'{text!r}.'
        ) from None
    if steps < 0:
        raise ArgumentError(
            f'Alphas FIRST:LAST:STEP must go up from FIRST to LAST; got '
            f'{text!r}.'
        )
    alphas = sorted({round(alpha, 6) for alpha in alphas})
    if not all(0 <= alpha <= 1 for alpha in alphas):
        raise ArgumentError(f'Alphas must be between 0 and 1, got {text!r}.')
    return alphas


def best_alpha(curve: Curve, name: str) -> float:
    """Return the smallest alpha with the highest score on one data set.

    This selects on that data set, so the score there does not measure how the
    chosen weights do on new images.
    """
    return max(sorted(curve), key=lambda alpha: curve[alpha][name])


def curve_to_markdown(curve: Curve, chosen: float) -> str:
    """Format a table with a row per alpha, the chosen one in bold."""
    names = list(next(iter(curve.values())))
    rows = []
    for alpha in sorted(curve):
        scores = (f'{curve[alpha][name]:.1f}' for name in names)
        cells = [f'{alpha:g}', *scores]
        if alpha == chosen:
            cells = [f'**{cell}**' for cell in cells]
        rows.append(cells)
    return markdown_table(['alpha', *names], rows, 'r' * (1 + len(names)))


def write_curve(
    curve: Curve, chosen: float, folder: str | Path, about: dict[str, Any]
) -> None:
    """Write ``table.md``, ``curve.json`` and ``curve.png``.

    Args:
        curve (Mapping): Scores by alpha, then by data set.
        chosen (float): The alpha to mark.
        folder (str | Path): The folder to write to; it is created.
        about (dict): Other entries of ``curve.json``.
    """
    folder = Path(folder)
    points = [dict(alpha=a, scores=dict(curve[a])) for a in sorted(curve)]
    content = json.dumps(about | dict(chosen=chosen, curve=points), indent=2)
    for name, text in (
        ('table.md', curve_to_markdown(curve, chosen)),
        ('curve.json', content + '\n'),
    ):
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding='utf-8')
    with atomic_file(folder / 'curve.png') as temporary:
        _draw(curve, chosen, about['metric'], temporary)


def _draw(curve: Curve, chosen: float, metric: str, path: Path) -> None:
    """Plot the first data set on x and the others on y.

    A single data set is plotted over alpha.
    """
    from matplotlib.figure import Figure

    alphas = sorted(curve)
    first, *others = next(iter(curve.values()))
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    across = [curve[a][first] for a in alphas] if others else alphas
    for name in others or [first]:
        up = [curve[a][name] for a in alphas]
        axes.plot(across, up, marker='o', markersize=4, label=name)
        i = alphas.index(chosen)
        axes.plot(across[i], up[i], marker='*', markersize=14, color='black')
        for x, y, alpha in zip(across, up, alphas, strict=True):
            axes.annotate(
                f'{alpha:g}',
                (x, y),
                xytext=(4, 4),
                textcoords='offset points',
                fontsize=8,
            )
    axes.set_xlabel(f'{metric} on {first}' if others else 'alpha')
    axes.set_ylabel(f'{metric} on {", ".join(others or [first])}')
    axes.set_title(
        'from zero-shot (0) to fine-tuned (1); star: chosen', fontsize=10
    )
    axes.legend()
    figure.savefig(path, dpi=120, format='png')


def _known_metrics(runner: Runner, evaluator: Any) -> list[str]:
    """Name what an evaluator of accuracies measures; none for others."""
    metrics = runner.build_evaluator(evaluator).metrics
    if not all(isinstance(m, Accuracy) and len(m.thrs) == 1 for m in metrics):
        return []
    return [f'{m.prefix}/top{k}' for m in metrics for k in m.topk]


def _check_classes(dataloaders: Mapping[str, DataLoader]) -> None:
    """Refuse data sets with different classes, which shift the labels."""
    known = {}
    for name, dataloader in dataloaders.items():
        metainfo = getattr(dataloader.dataset, 'metainfo', {})
        if metainfo.get('classes'):
            known[name] = list(metainfo['classes'])
    for name, classes in known.items():
        first = next(iter(known))
        if not are_same_classes(classes, known[first]):
            different = sorted(set(classes) ^ set(known[first]))[:10]
            raise DataError(
                f'The data sets {first} and {name} have different classes or '
                'a different order, so the same label would mean different '
                f'classes ({", ".join(map(str, different)) or "order"}). Add '
                'the missing class folders, or set metainfo.classes.'
            )
