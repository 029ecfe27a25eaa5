"""Fill in the counted numbers of the model page.

Counts the parameters and multiply-accumulates of every config that
configs/clip/metafile.yml names, and writes them there and into the results
table of configs/clip/README.md.
"""

import argparse
import sys
from pathlib import Path

import yaml

from mmclip.analysis.complexity import count_complexity, image_size
from mmclip.engine.config.load import load_config

ROOT = Path(__file__).parents[2]
METAFILE = ROOT / 'configs' / 'clip' / 'metafile.yml'
README = ROOT / 'configs' / 'clip' / 'README.md'
BEGIN, END = '<!-- results: begin -->\n', '<!-- results: end -->\n'
HEADER = '# FLOPs and Parameters: python tools/analysis_tools/model_page.py\n'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python %(prog)s --check',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; fail if a file would change',
    )
    args = parser.parse_args()

    metafile = yaml.safe_load(METAFILE.read_text(encoding='utf-8'))
    for model in metafile['Models']:
        fill_in(model['Metadata'], ROOT / model['Config'])
    texts = {
        METAFILE: HEADER + yaml.safe_dump(metafile, sort_keys=False),
        README: with_table(README, results_table(metafile['Models'])),
    }
    for path, text in texts.items():
        if path.read_text(encoding='utf-8') == text:
            continue
        if args.check:
            sys.exit(
                f'{path.relative_to(ROOT)} is out of date; run model_page.py'
            )
        path.write_text(text, encoding='utf-8')
        print(f'wrote {path.relative_to(ROOT)}')


def fill_in(metadata: dict, config: Path) -> None:
    """Count for one config."""
    cfg = load_config(config)
    complexity = count_complexity(cfg, image_size(cfg))
    metadata['FLOPs'] = complexity.macs
    metadata['Parameters'] = complexity.params


def results_table(models: list[dict]) -> str:
    """The table of the model page, in Markdown."""
    lines = [
        '| Model | Params (M) | Flops (G) | Top-1 (%) | Top-5 (%) '
        '| Measured by | Config | Weights |',
        '| :-- | --: | --: | --: | --: | :-- | :-: | :-: |',
    ]
    for model in models:
        metadata = model['Metadata']
        metrics = model['Results'][0]['Metrics']
        config = Path(model['Config']).name
        weights = model.get('Converted From', {}).get('Weights')
        cells = [
            f'`{model["Name"]}`',
            f'{metadata["Parameters"] / 1e6:.2f}',
            f'{metadata["FLOPs"] / 1e9:.2f}',
            f'{metrics["Top 1 Accuracy"]:.2f}',
            f'{metrics["Top 5 Accuracy"]:.2f}'
            if 'Top 5 Accuracy' in metrics
            else '-',
            model['Result From'],
            f'[config](./{config})',
            f'[timm]({weights})' if weights else '-',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def with_table(path: Path, table: str) -> str:
    """The text of a page with the table between its two marks."""
    before, rest = path.read_text(encoding='utf-8').split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + table + END + after


if __name__ == '__main__':
    main()
