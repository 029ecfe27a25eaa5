"""Collect the results of `run.py --ways` in a table and pictures."""

import argparse
import json
from pathlib import Path
from typing import Any

from mmengine.fileio import load
from mmpretrain.evaluation import Accuracy

from mmclip.adapting.run_files.run_folder import RunFolder
from mmclip.markdown import markdown_table

MODELS = {
    'zero_shot': 'zero-shot',
    'linear_probe': 'linear probe',
    'from_scratch': 'trained from scratch',
    'fine_tuned': 'fine-tuned from CLIP',
    'from_zero_shot': 'fine-tuned from zero-shot',
    'wise_ft': 'WiSE-FT, alpha 0.5',
    'flyp': 'FLYP',
}
TRAINED = ('from_scratch', 'fine_tuned', 'from_zero_shot', 'flyp')
SPLITS = {'val': 'held-out', 'val_shifted': 'shifted'}
EXAMPLE = """example:
  python %(prog)s work_dirs/demo
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'demo',
        type=Path,
        nargs='?',
        default=Path('work_dirs/demo'),
        help='the folder of the demo (default: %(default)s)',
    )
    demo = parser.parse_args().demo

    table = adapted(demo) | by_config(demo)
    text = markdown_table(
        ['', *SPLITS.values()],
        [[label, *row.values()] for label, row in table.items()],
    )
    (demo / 'table.md').write_text(text)
    (demo / 'table.json').write_text(json.dumps(table, indent=2) + '\n')
    draw_bars(table, demo / 'table.png')
    draw_curves(demo, demo / 'curves.png')
    draw_predictions(demo, demo / 'predictions.png')
    print(f'\nTop-1 accuracy on real handwriting, in percent\n\n{text}')
    print(f'wrote table.md, table.json and three pictures to {demo}')


def adapted(demo: Path) -> dict[str, dict[str, float]]:
    """Read top-1 in percent of what ``mmclip adapt`` compared.

    The last row is what it chose.
    """
    numbers = RunFolder(demo / 'run').read_metrics()
    rows = {
        m['name']: (f'adapt: {m["title"]}', _top1_of(m))
        for m in numbers['methods']
    }
    chosen = 'adapt: its choice', rows[numbers['chosen']][1]
    return dict([*rows.values(), chosen])


def by_config(demo: Path) -> dict[str, dict[str, float]]:
    """Read top-1 in percent of the seven ways, from the runs' files."""
    return {
        label: {
            split: top1(load(demo / f'{model}_{split}.pkl'))
            for split in SPLITS
        }
        for model, label in MODELS.items()
    }


def top1(predictions: list[dict[str, Any]]) -> float:
    """Compute top-1 in percent of predictions from tools/test.py --out."""
    return Accuracy.calculate(
        [int(p['pred_label']) for p in predictions],
        [int(p['gt_label']) for p in predictions],
    ).item()


def draw_bars(table: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the seven ways as a bar chart."""
    figure, axes = _new_figure(1)
    for i, (split, label) in enumerate(SPLITS.items()):
        positions = [k + 0.4 * i for k in range(len(MODELS))]
        heights = [table[way][split] for way in MODELS.values()]
        bars = axes.bar(positions, heights, 0.38, label=label)
        axes.bar_label(bars, fmt='%.1f', fontsize=7)
    axes.axhline(10, color='grey', linestyle=':', label='chance')
    axes.set_xticks(
        [k + 0.2 for k in range(len(MODELS))],
        [label.replace(' ', '\n', 1) for label in MODELS.values()],
        fontsize=8,
    )
    axes.set_ylabel('top-1 (%)')
    axes.set_ylim(0, 125)
    axes.set_yticks(range(0, 101, 20))
    axes.legend(loc='upper right')
    figure.savefig(path, dpi=120)


def draw_curves(demo: Path, path: Path) -> None:
    """Draw the losses of pre-training and training, and the accuracy."""
    figure, (pretraining, loss, accuracy) = _new_figure(3)
    curve = json.loads((demo / 'pretrain.json').read_text())['loss']
    pretraining.plot(curve)
    pretraining.set(title='CLIP on glyphs', xlabel='step', ylabel='CLIP loss')
    for model in TRAINED:
        scalars = read_scalars(demo / model)
        for axes, key in ((loss, 'loss'), (accuracy, 'accuracy/top1')):
            points = [(s['step'], s[key]) for s in scalars if key in s]
            axes.plot(*zip(*points, strict=True), label=MODELS[model])
    loss.set(title='fine-tuning', xlabel='iteration', ylabel='loss')
    accuracy.set(title='held-out', xlabel='iteration', ylabel='top-1 (%)')
    accuracy.legend()
    figure.savefig(path, dpi=120)


def draw_predictions(demo: Path, path: Path) -> None:
    """Draw test images of both splits with the fine-tuned predictions."""
    import matplotlib.pyplot as plt

    figure, _ = _new_figure(1)
    figure.clear()
    rows, columns = 4, 12
    for i, split in enumerate(SPLITS):
        predictions = load(demo / f'fine_tuned_{split}.pkl')
        count = rows * columns // len(SPLITS)
        chosen = predictions[:: len(predictions) // count][:count]
        for k, prediction in enumerate(chosen):
            axes = figure.add_subplot(rows, columns, i * count + k + 1)
            axes.imshow(plt.imread(prediction['img_path']), cmap='gray')
            said, right = prediction['pred_label'], prediction['gt_label']
            colour = 'green' if int(said) == int(right) else 'red'
            axes.set_title(str(int(said)), color=colour, fontsize=11)
            axes.axis('off')
    figure.suptitle(
        'fine-tuned from CLIP: held-out (above), shifted (below); red is wrong'
    )
    figure.savefig(path, dpi=120)


def read_scalars(work_dir: Path) -> list[dict[str, Any]]:
    """Read the log lines of the newest run in a work directory."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in newest.read_text().splitlines()]


def _top1_of(method: dict[str, Any]) -> dict[str, float]:
    """Return top-1 in percent by split, from an entry of metrics.json."""
    measured = dict(val=method['val'], **method['also'])
    return {split: measured[split]['accuracy'] for split in SPLITS}


def _new_figure(columns: int) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    return plt.subplots(
        1, columns, figsize=(max(7, 4.5 * columns), 4), layout='constrained'
    )


if __name__ == '__main__':
    main()
