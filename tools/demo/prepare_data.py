"""Write scikit-learn's handwritten digits as an ImageNet-style tree."""

import argparse
import sys
from pathlib import Path

from digits import write_digits

EXAMPLES = """examples:
  python %(prog)s
  python %(prog)s --root data/ten_shots --shots 10
"""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--root',
        type=Path,
        default='data/demo_digits',
        help='the folder to write (default: %(default)s)',
    )
    add(
        '--shots',
        type=int,
        default=3,
        help='training images per class (default: %(default)s)',
    )
    add(
        '--seed',
        type=int,
        default=0,
        help='seed of the split and the shift (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        counts = write_digits(args.root, args.shots, args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    listed = ', '.join(f'{n:,} in {split}' for split, n in counts.items())
    print(f'wrote {args.root} (scans of 10 digits: {listed})')


if __name__ == '__main__':
    main()
