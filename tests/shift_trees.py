"""Tiny trees of images in the layouts of the published data sets."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

# The entries of ObjectNet's own mappings for seven of its objects.
OBJECTS = {
    'alarm_clock': ('Alarm clock', 'analog clock; digital clock'),
    'banana': ('Banana', 'banana'),
    'bench': ('Bench', 'park bench'),
    'chair': (
        'Chair',
        'barber chair; folding chair; rocking chair, rocker',
    ),
    'lemon': ('Lemon', 'lemon'),
    'mug': ('Mug', 'coffee mug'),
    'squeegee': ('Squeegee', None),  # not a class of ImageNet
}


def write_images(root: Path, *names: str) -> Path:
    """Write a small image of each name; returns ``root``."""
    random = np.random.default_rng(0)
    for name in names:
        pixels = random.integers(0, 256, (36, 40, 3), dtype=np.uint8)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def write_objectnet(root: Path) -> Path:
    """``root/images`` and ``root/mappings``; returns the former."""
    names = {folder: name for folder, (name, _) in OBJECTS.items()}
    classes = {name: own for name, own in OBJECTS.values() if own}
    mappings = root / 'mappings'
    mappings.mkdir(parents=True)
    for file, content in (
        ('folder_to_objectnet_label.json', names),
        ('objectnet_to_imagenet_1k.json', classes),
    ):
        (mappings / file).write_text(json.dumps(content))
    return write_images(root / 'images', *(f'{n}/0.png' for n in OBJECTS))
