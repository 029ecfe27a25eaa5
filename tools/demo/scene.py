"""Find digits in scenes of several, by the demo's CLIP and their names alone.

A scene has handwritten digits at random places. Each pixel of their strokes is
given one of the ten names; the table says how often it is the right one
(chance: 10 %), for each value of --dense of mmclip segment. Needs
FOLDER/work_dirs/demo/open_clip and FOLDER/data/demo_digits, of run.py.
"""

import argparse
from pathlib import Path

import numpy as np
from digits import DIGIT_NAMES, SIZE
from PIL import Image
from run import DEMO, OPEN_CLIP, TEMPLATES

from mmclip.markdown import markdown_table
from mmclip.models.dense import DENSE
from mmclip.named_model.encoder import open_encoder
from mmclip.segmentation.class_names import parse_classes
from mmclip.segmentation.map_file import save_map
from mmclip.segmentation.segmenter import WINDOWS, Segmenter

EXAMPLES = """examples:
  python %(prog)s
  python %(prog)s --folder work_dirs/demo_seeds/1 --scenes 200
  python %(prog)s --anywhere
"""
SIDE, DIGITS = 96, 4  # pixels of a scene, and how many digits it has
NEAREST = 28  # pixels between corners of scans: their edges are black
STROKE = 128  # pixels at least as bright belong to a digit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--folder', type=Path, default=Path(), help='where run.py was run')
    add('--scenes', type=int, default=100, help='(default: %(default)s)')
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add(
        '--anywhere',
        action='store_true',
        help='place digits anywhere, not on the grid of the windows',
    )
    args = parser.parse_args()
    if len(set(args.seeds)) < 2:
        parser.error('at least two seeds are needed for a spread')
    encoder = open_encoder(str(args.folder / OPEN_CLIP))
    files = sorted((args.folder / 'data/demo_digits/val').glob('*/*.png'))
    body = []
    for dense in [*DENSE, WINDOWS]:
        segmenter = Segmenter(
            encoder,
            parse_classes(DIGIT_NAMES),
            TEMPLATES,
            dense=dense,
            short_side=SIDE,
        )
        rates = [
            rate(segmenter, files, args.scenes, seed, args.anywhere)
            for seed in args.seeds
        ]
        spread = f'{np.mean(rates):.1f} ± {np.std(rates, ddof=1):.1f}'
        body.append([dense, spread])
    print(
        f'Pixels of strokes with the right name, percent, of {args.scenes} '
        f'scenes, mean and spread of {len(args.seeds)} seeds\n'
    )
    print(markdown_table(['dense', 'right'], body))
    image, _ = make_scene(files, np.random.default_rng(0), args.anywhere)
    scene = args.folder / DEMO / 'scene.png'
    image.save(scene)
    save_map(segmenter(np.asarray(image)), scene.with_name('scene_map.png'))
    print(f'a scene, and its map beside it: {scene}')


def rate(
    segmenter: Segmenter,
    files: list[Path],
    scenes: int,
    seed: int,
    anywhere: bool,
) -> float:
    """Return the percentage of stroke pixels with the right name."""
    random = np.random.default_rng(seed)
    right = total = 0
    for _ in range(scenes):
        image, wanted = make_scene(files, random, anywhere)
        is_stroke = wanted >= 0
        got = segmenter(np.asarray(image)).numpy()  # grey is BGR, too
        right += (got == wanted)[is_stroke].sum()
        total += is_stroke.sum()
    return 100 * right / total


def make_scene(
    files: list[Path], random: np.random.Generator, anywhere: bool
) -> tuple[Image.Image, np.ndarray]:
    """Place scans on a grid of cells, each moved by a few pixels, or anywhere.

    Returns:
        tuple[Image.Image, np.ndarray]: The scene, and the digit of each pixel
        ``(SIDE, SIDE)``, -1 for none.
    """
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    wanted = np.full((SIDE, SIDE), -1)
    for place in _anywhere(random) if anywhere else _cells(random):
        file = files[random.integers(len(files))]
        scan = np.asarray(Image.open(file).convert('L'))
        if not anywhere:
            place = place + random.integers(-6, 7, 2)
        top, left = np.clip(place, 0, SIDE - SIZE)
        there = np.s_[top : top + SIZE, left : left + SIZE]
        pixels[there] = np.maximum(pixels[there], scan)
        wanted[there] = np.where(
            scan >= STROKE, int(file.parent.name), wanted[there]
        )
    return Image.fromarray(pixels).convert('RGB'), wanted


def _cells(random: np.random.Generator) -> np.ndarray:
    """Draw cells of a grid: their top left corners ``(DIGITS, 2)``."""
    per_side = SIDE // SIZE
    cells = random.choice(per_side**2, DIGITS, replace=False)
    return np.stack(np.divmod(cells, per_side), 1) * SIZE


def _anywhere(random: np.random.Generator) -> np.ndarray:
    """Draw corners ``(DIGITS, 2)`` of which no two are closer than NEAREST."""
    while True:
        places = random.integers(0, SIDE - SIZE + 1, (DIGITS, 2))
        apart = np.abs(places[:, None] - places).max(2)
        if (apart[~np.eye(DIGITS, dtype=bool)] >= NEAREST).all():
            return places


if __name__ == '__main__':
    main()
