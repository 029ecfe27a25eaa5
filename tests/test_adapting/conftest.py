from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmclip
from mmclip.adapting.run_files.run_folder import RunFolder
from tests.conftest import save_whole_model

COLOURS = dict(blue=(40, 60, 200), green=(40, 180, 60), red=(200, 50, 40))


def save_photos(folder: Path, number: int = 8, size: int = 48) -> Path:
    """Noisy pictures of three colours, in one folder per class."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(number):
            noise = random.normal(0, 60, (size, size, 3))
            pixels = np.clip(noise + colour, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f'{i}.png')
    return folder


@pytest.fixture(scope='package')
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run on colours, with a tiny random CLIP."""
    folder = tmp_path_factory.mktemp('run')
    (folder / 'clip').mkdir()
    save_whole_model(folder / 'clip')
    photos = save_photos(folder / 'photos')
    swapped = save_photos(folder / 'swapped')
    (swapped / 'red').rename(swapped / 'x')
    (swapped / 'blue').rename(swapped / 'red')
    (swapped / 'x').rename(swapped / 'blue')
    return mmclip.adapt(
        photos,
        folder / 'run',
        model=str(folder / 'clip'),
        templates=['a photo of {}'],
        also_test=[swapped],
    )
