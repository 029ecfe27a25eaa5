from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

import mmclip
from mmclip.checkpoint.describe import describe_model
from mmclip.checkpoint.files.writing import write_checkpoint
from mmclip.datasets.preprocessing import data_preprocessor, test_pipeline
from mmclip.predicting.classifier import Classifier
from tests.conftest import classifier

CLASSES = ('blue', 'green', 'red', 'white', 'grey', 'black')
PREPROCESS = dict(
    mean=[0.3, 0.5, 0.6],
    std=[0.2, 0.3, 0.4],
    interpolation='bicubic',
    resize_mode='shortest',
)
ANSWERS = dict(temperature=2.5, threshold=0.3)


def model_config() -> dict:
    preprocessor = data_preprocessor(PREPROCESS)
    return classifier(len(CLASSES)) | dict(data_preprocessor=preprocessor)


def pipeline() -> list[dict]:
    return test_pipeline(PREPROCESS, 16)


def checkpoint() -> dict:
    """What training a small classifier writes, and how it is calibrated."""
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(model_config())
    torch.nn.init.normal_(model.head.fc.weight)
    clip = describe_model(model, pipeline(), CLASSES)
    meta = dict(clip=dict(clip, answers=dict(ANSWERS)))
    return dict(meta=meta, state_dict=model.state_dict())


@pytest.fixture(scope='package')
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('model') / 'model.pth'
    write_checkpoint(checkpoint(), path)
    return path


@pytest.fixture(scope='package')
def model(model_path: Path) -> Classifier:
    return mmclip.load(model_path, device='cpu')


def save_photos(folder: Path) -> Path:
    """Five noisy images, in two folders."""
    random = np.random.default_rng(0)
    for i in range(5):
        path = folder / 'ab'[i % 2] / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_photos(tmp_path / 'photos')
