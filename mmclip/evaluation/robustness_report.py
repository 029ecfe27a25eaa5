"""A table and a plot of the results of :mod:`mmclip.evaluation.robustness`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.evaluation.robustness import Result
from mmclip.markdown import markdown_table

NOTES = """
Top-1 and top-5 in percent, choosing between the classes of the set.
"ImageNet": the same top-1 on ImageNet's validation images of these classes.
"Difference": top-1 minus that, in points.
"""
WITHOUT_BASELINE = """--baseline DIR adds a column "effective robustness", if
ImageNet and a shift that DIR has tables for were evaluated.
"""
EFFECTIVE = """"Effective robustness": top-1 minus what the baseline predicts
from "ImageNet" (arXiv 2007.00644).
"""


def write_report(
    results: Sequence[Result], folder: Path, facts: dict[str, Any]
) -> str:
    """Write ``table.md``, ``table.json`` and ``plot.png``.

    Args:
        results (Sequence[Result]): One result per set.
        folder (Path): The folder to write to.
        facts (dict): Other entries of ``table.json``, such as the checkpoint.

    Returns:
        str: The table.
    """
    text = to_markdown(results)
    with atomic_file(folder / 'table.md') as path:
        path.write_text(text)
    with atomic_file(folder / 'table.json') as path:
        path.write_text(json.dumps(to_dict(results, facts), indent=2) + '\n')
    with atomic_file(folder / 'plot.png') as path:
        draw(results, path)
    return text


def to_markdown(results: Sequence[Result]) -> str:
    """Format a table with a row per set; cells without a number are empty."""
    columns = ['', 'images', 'classes', 'top-1', 'top-5']
    columns += ['ImageNet', 'difference']
    with_baseline = any(r.predicted is not None for r in results)
    if with_baseline:
        columns.append('effective robustness')
    rows = []
    for r in results:
        classes = f'{r.classes}' if r.found == r.classes else ''
        cells = [
            r.name,
            r.images,
            classes or f'{r.classes} ({r.found} found)',
            f'{r.top1:.1f}',
            f'{r.top5:.1f}',
            _number(r.imagenet, '.1f'),
            _number(r.difference, '+.1f'),
        ]
        if with_baseline:
            cells.append(_number(r.effective_robustness, '+.1f'))
        rows.append(cells)
    notes = NOTES + (EFFECTIVE if with_baseline else WITHOUT_BASELINE)
    return markdown_table(columns, rows) + notes


def to_dict(
    results: Sequence[Result], facts: dict[str, Any]
) -> dict[str, Any]:
    """Collect all numbers by name of the set."""
    sets = {}
    for r in results:
        sets[r.name] = dataclasses.asdict(r) | dict(
            difference=r.difference,
            effective_robustness=r.effective_robustness,
        )
        del sets[r.name]['name']
    return dict(**facts, sets=sets)


def draw(results: Sequence[Result], path: Path) -> None:
    """Plot top-1 of each set, with ImageNet's and the baseline's."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        figsize=(max(6, 1.4 * len(results)), 4.5), layout='constrained'
    )
    bars = axes.bar(
        range(len(results)), [r.top1 for r in results], 0.6, label='top-1'
    )
    axes.bar_label(bars, fmt='%.1f', padding=2)
    for values, label, style in (
        ([r.imagenet for r in results], 'ImageNet, same classes', 'k_'),
        ([r.predicted for r in results], 'predicted by the baseline', 'C1D'),
    ):
        points = [(i, v) for i, v in enumerate(values) if v is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), style, ms=9, mew=2, label=label
            )
    names = [r.name.replace('-', '-\n', 1) for r in results]
    axes.set_xticks(range(len(results)), names, fontsize=8)
    axes.set_ylabel('accuracy (%)')
    axes.set_ylim(0, 110)
    axes.legend(loc='upper center', bbox_to_anchor=(0.5, 1.12), ncols=3)
    figure.savefig(path, dpi=120, format='png')
    plt.close(figure)


def _number(value: float | None, spec: str) -> str:
    return '' if value is None else format(value, spec)
