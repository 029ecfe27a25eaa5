"""The table and the plot of what was measured."""

from collections.abc import Sequence
from pathlib import Path

from mmclip.benchmark.rounds import OURS, YARDSTICK, Row
from mmclip.markdown import markdown_table

HEADER = (
    'who',
    'time (ms)',
    'IQR',
    'time / ours',
    'quartiles',
    'first call (s)',
    'peak (MiB)',
    'of product rate',
    'difference',
)


def table(rows: Sequence[Row]) -> str:
    """Format the rows of a case as a Markdown table with its heading."""
    first = rows[0]
    rounds = max(row.rounds for row in rows)
    heading = (
        f'**{first.case}** ({rounds} rounds count, {first.repeated} noisy '
        f'ones repeated; up to {first.widest:.0%} above a median)\n\n'
    )
    cells = [HEADER, *map(_cells, rows)]
    # Without the columns that are empty, as difference is of random crops.
    columns = [c for c in zip(*cells, strict=True) if any(c[1:])]
    header, *body = zip(*columns, strict=True)
    return heading + markdown_table(header, body)


def _cells(row: Row) -> list[str]:
    once = row.rounds == 1
    return [
        row.name,
        f'{1000 * row.seconds:.4g}',
        'once' if once else f'{row.spread:.1%}',
        f'{row.ratio:.3f}',
        '' if once else f'{row.ratio_low:.3f} to {row.ratio_high:.3f}',
        f'{row.first:.2f}',
        '' if row.peak is None else f'{row.peak / 2**20:.1f}',
        '' if row.share is None else f'{row.share:.0%}',
        '' if row.difference is None else f'{row.difference:.0e}',
    ]


def plot(rows: Sequence[Row], out: Path) -> None:
    """Draw each peer's time over ours, with quartiles, case by case."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(row.case for row in rows))
    shown = [row for row in rows if row.name not in (OURS, YARDSTICK)]
    height = 1 + 0.25 * len(shown) + 0.4 * len(cases)
    figure = Figure(figsize=(8, height), layout='constrained')
    axes = figure.subplots(len(cases), squeeze=False, sharex=True)[:, 0]
    for axis, case in zip(axes, cases, strict=True):
        of_case = [row for row in reversed(shown) if row.case == case]
        ratios = [row.ratio for row in of_case]
        below = [row.ratio - row.ratio_low for row in of_case]
        above = [row.ratio_high - row.ratio for row in of_case]
        axis.barh(
            [row.name for row in of_case],
            ratios,
            xerr=(below, above),
            color='#7a9cc6',
        )
        axis.axvline(1, color='black', linewidth=1)
        axis.set_title(case, fontsize='small', loc='left')
    axes[-1].set_xlabel(f'time over that of {OURS}; above 1 is slower')
    figure.savefig(out)
