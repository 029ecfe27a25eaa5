"""Parameters and multiply-accumulates for the model page.

They are counted for every config in configs/clip/metafile.yml, and written
there and into the results table of configs/clip/README.md.
"""

from pathlib import Path

import yaml

from mmclip.analysis.complexity import count_complexity, image_size
from mmclip.engine.config.load import load_config
from mmclip.errors import DataError
from mmclip.markdown import markdown_table

METAFILE = Path('configs/clip/metafile.yml')
README = Path('configs/clip/README.md')
BEGIN, END = '<!-- results: begin -->\n', '<!-- results: end -->\n'
HEADER = '# FLOPs and Parameters: python tools/analysis_tools/model_page.py\n'


def checkout() -> Path:
    """Return the root of the checkout that this package is in.

    Raises:
        DataError: If it is installed without one.
    """
    root = Path(__file__).parents[2]
    if not (root / METAFILE).is_file():
        raise DataError(
            f'This needs a checkout of mmclip, but there is no '
            f'{root / METAFILE}. Run it in one, installed with pip -e.'
        )
    return root


def fill_in_model_page(root: Path) -> dict[Path, str]:
    """Count, and fill in the files that have the numbers."""
    text = (root / METAFILE).read_text(encoding='utf-8')
    metafile = yaml.safe_load(text)
    for model in metafile['Models']:
        fill_in(model['Metadata'], root / model['Config'])
    page = (root / README).read_text(encoding='utf-8')
    return {
        METAFILE: HEADER + yaml.safe_dump(metafile, sort_keys=False),
        README: between_marks(
            page, BEGIN, results_table(metafile['Models']), END
        ),
    }


def fill_in(metadata: dict, config: Path) -> None:
    """Count for one config, and store the numbers in its metadata."""
    cfg = load_config(config)
    complexity = count_complexity(cfg, image_size(cfg))
    metadata['FLOPs'] = complexity.macs
    metadata['Parameters'] = complexity.params


def results_table(models: list[dict]) -> str:
    """Format the results table of the model page, in Markdown."""
    rows = []
    for model in models:
        metadata = model['Metadata']
        metrics = model['Results'][0]['Metrics']
        config = Path(model['Config']).name
        weights = model.get('Converted From', {}).get('Weights')
        top5 = metrics.get('Top 5 Accuracy')
        rows.append(
            [
                f'`{model["Name"]}`',
                f'{metadata["Parameters"] / 1e6:.2f}',
                f'{metadata["FLOPs"] / 1e9:.2f}',
                f'{metrics["Top 1 Accuracy"]:.2f}',
                '-' if top5 is None else f'{top5:.2f}',
                model['Result From'],
                f'[config](./{config})',
                f'[timm]({weights})' if weights else '-',
            ]
        )
    header = (
        *('Model', 'Params (M)', 'Flops (G)', 'Top-1 (%)', 'Top-5 (%)'),
        *('Measured by', 'Config', 'Weights'),
    )
    return markdown_table(header, rows, 'lrrrrlcc')


def between_marks(page: str, begin: str, table: str, end: str) -> str:
    """Replace the text between two marks of a page."""
    before, rest = page.split(begin)
    return before + begin + table + end + rest.split(end)[1]
