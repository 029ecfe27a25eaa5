"""Small data sets in the layouts of ADE20k, VOC, Cityscapes and COCO."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 4  # of each split
SIZE = 96, 130  # height and width, no multiples of a patch
LABELS = 5  # the first of a data set's classes


def make_scene(seed: int) -> tuple[np.ndarray, list[list[int]], np.ndarray]:
    """Noise with two bright rectangles.

    Returns:
        tuple: Pixels, boxes (x, y, width, height), and a mask with 0 where
        there is none of them, and else 1 or 2.
    """
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 100, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    boxes = []
    for label, left in ((1, 5), (2, 70)):
        top, height, width = *random.integers(3, 30, 1), 55, 50
        pixels[top : top + height, left : left + width, label] += 150
        mask[top : top + height, left : left + width] = label
        boxes.append([left, int(top), width, height])
    return pixels, boxes, mask


def make_ade20k(root: Path) -> None:
    for split in ('training', 'validation'):
        for i in range(IMAGES):
            pixels, _, mask = make_scene(i)
            image = root / 'images' / split / f'{i}.jpg'
            labels = root / 'annotations' / split / f'{i}.png'
            save(pixels, image)
            save(mask + 1, labels)  # 0 is what has no class


def make_voc(root: Path) -> None:
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    for split in ('train', 'val'):
        names = [f'{split}{i}' for i in range(IMAGES)]
        (lists / f'{split}.txt').write_text('\n'.join(names))
        for i, name in enumerate(names):
            pixels, _, mask = make_scene(i)
            save(pixels, root / 'JPEGImages' / f'{name}.jpg')
            save(mask, root / 'SegmentationClass' / f'{name}.png')


def make_cityscapes(root: Path) -> None:
    for split in ('train', 'val'):
        for i in range(IMAGES):
            pixels, _, mask = make_scene(i)
            name = f'{split}/town/town_{i:06d}'
            save(pixels, root / 'leftImg8bit' / f'{name}_leftImg8bit.png')
            save(mask, root / 'gtFine' / f'{name}_gtFine_labelTrainIds.png')


def make_coco(root: Path) -> None:
    """Boxes, masks and key points of people, of cars the first two."""
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        images, things, people = [], [], []
        for i in range(IMAGES):
            pixels, boxes, _ = make_scene(i)
            name = f'{i:012d}.jpg'
            save(pixels, root / split / name)
            images.append(
                dict(id=i, file_name=name, height=SIZE[0], width=SIZE[1])
            )
            for label, box in zip((1, 3), boxes, strict=True):
                thing = describe(len(things) + 1, i, label, box)
                things.append(thing)
                if label == 1:
                    people.append(thing | key_points(box))
        categories = [
            dict(id=i, name=name) for i, name in enumerate(coco_classes(), 1)
        ]
        write(root, f'instances_{split}', images, things, categories)
        write(root, f'person_keypoints_{split}', images, people, [PERSON])
    found = [
        dict(
            image_id=thing['image_id'],
            category_id=1,
            bbox=thing['bbox'],
            score=0.9,
        )
        for thing in people
    ]
    (root / 'detections.json').write_text(json.dumps(found))


def coco_classes() -> tuple[str, ...]:
    from mmdet.datasets import CocoDataset

    return CocoDataset.METAINFO['classes']


PERSON = dict(
    id=1,
    name='person',
    keypoints=[f'point {i}' for i in range(17)],
    skeleton=[],
)


def describe(number: int, image: int, label: int, box: list[int]) -> dict:
    left, top, width, height = box
    right, bottom = left + width, top + height
    outline = [left, top, right, top, right, bottom, left, bottom]
    return dict(
        id=number,
        image_id=image,
        category_id=label,
        bbox=box,
        area=width * height,
        segmentation=[outline],
        iscrowd=0,
    )


def key_points(box: list[int]) -> dict:
    """17 points on a diagonal of the box, all visible."""
    left, top, width, height = box
    points: list[float] = []
    for share in np.linspace(0.1, 0.9, 17):
        points += [left + share * width, top + share * height, 2]
    return dict(keypoints=points, num_keypoints=17)


def write(
    root: Path, name: str, images: list, annotations: list, categories: list
) -> None:
    content = dict(
        info={}, images=images, annotations=annotations, categories=categories
    )
    (root / 'annotations' / f'{name}.json').write_text(json.dumps(content))


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
