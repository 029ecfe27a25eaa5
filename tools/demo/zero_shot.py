"""Zero-shot accuracy of the demo's CLIP, measured with open_clip itself."""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from mmclip.datasets.glyphs import DIGIT_NAMES

EXAMPLES = """examples:
  python %(prog)s
  python %(prog)s work_dirs/demo/open_clip --data data/demo_digits
"""
TEMPLATES = (
    'the digit {}',
    'a handwritten digit {}',
    'a scan of the number {}',
)
SPLITS = ('val', 'val_shifted')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        'model',
        nargs='?',
        default='work_dirs/demo/open_clip',
        help='folder of the open_clip model (default: %(default)s)',
    )
    add(
        '--data',
        type=Path,
        default='data/demo_digits',
        help='folder that prepare_data.py wrote (default: %(default)s)',
    )
    add(
        '--out',
        type=Path,
        default='work_dirs/demo/zero_shot.json',
        help='the JSON file to write (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    accuracies = zero_shot_accuracies(args.model, args.data)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(accuracies, indent=2) + '\n')
    for split, accuracy in accuracies.items():
        print(f'zero-shot top-1 on {split}: {accuracy:.2f} %')
    print(f'wrote {args.out}')


def zero_shot_accuracies(folder: str | Path, data: Path) -> dict[str, float]:
    """Top-1 accuracy in percent on each split.

    Args:
        folder (str | Path): Folder of an open_clip model.
        data (Path): Folder that holds a folder tree per split.

    Returns:
        dict[str, float]: Percent by split.
    """
    import open_clip
    from torchvision.datasets import ImageFolder

    name = f'local-dir:{folder}'
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    classifier = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer(name), DIGIT_NAMES, TEMPLATES
    )
    return {
        split: accuracy(
            model, classifier, ImageFolder(str(data / split), preprocess)
        )
        for split in SPLITS
    }


@torch.inference_mode()
def accuracy(
    model: nn.Module, classifier: Tensor, dataset: torch.utils.data.Dataset
) -> float:
    """Percent of images whose most similar text is that of their class.

    Args:
        model (nn.Module): An open_clip model.
        classifier (Tensor): Text embeddings ``(C, classes)``.
        dataset (torch.utils.data.Dataset): Images with labels.

    Returns:
        float: From 0 to 100.
    """
    num_right = 0
    for images, labels in torch.utils.data.DataLoader(dataset, 256):
        features = model.encode_image(images, normalize=True)
        predictions = (features @ classifier).argmax(dim=1)
        num_right += (predictions == labels).sum().item()
    return round(100 * num_right / len(dataset), 2)


if __name__ == '__main__':
    main()
