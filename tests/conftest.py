"""What several test files need."""

import dataclasses
import gc
import logging
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Two processes on two cores, of one thread each: for these, for what they
# start, and before torch is imported.
os.environ['OMP_NUM_THREADS'] = '1'

import open_clip
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer
from torch import nn

from mmclip.analysis.parity import randomize
from mmclip.engine.resume.signals import STOPPING

# In the background, and under nohup, they are ignored, by all programs that
# the tests start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# Workers of a run that failed are waited for: five seconds each, in torch.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5

# Other packages, in an environment of their own: `make test-downstream`.
collect_ignore = ['downstream']
REPOSITORY = Path(__file__).parents[1]
# fp32, the bound that every output of ours keeps to open_clip's.
RELATIVE_TOLERANCE = 2e-5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: both processes then end at once."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Keep what is imported out of the garbage collector's sight.

    mmengine collects garbage for each data set that it builds, which takes
    long among all that open_clip and its dependencies bring.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let libraries take down at exit what they built."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope='session')
def a_cache_of_its_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Keep class embeddings, and what else torch caches, out of the home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(tmp_path_factory.mktemp('torch')))
        yield


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Forget the runs and the signal handlers that a test leaves.

    mmengine names what belongs to a run by the second in which it began, and
    gives the run of another test in that second the same log. A command that
    is called in this process makes signals end it at once.
    """
    kinds = DefaultScope, MMLogger, MessageHub, Visualizer, UniversalVisualizer
    for kind in kinds:
        kind._instance_dict.clear()
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def log() -> Iterator[list[str]]:
    """What mmengine's current logger is told."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of files, which stands for a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def use_hub_cache(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let the libraries look there for downloads, and nowhere else."""
    from huggingface_hub import constants

    patch.setattr(constants, 'HF_HUB_CACHE', str(cache))
    patch.setattr(constants, 'HF_HUB_OFFLINE', True)


def classifier(num_classes: int, width: int = 16, **backbone) -> dict:
    """The config of a classifier with one narrow block."""
    arch = dict(width=width, depth=1, num_heads=2, mlp_width=2 * width)
    tower = dict(type='mmclip.CLIPVisionTransformer', arch=arch)
    tower |= dict(act='quick_gelu', img_size=16, patch_size=8)
    head = dict(num_classes=num_classes, in_channels=width)
    return dict(
        type='ImageClassifier',
        backbone=tower | backbone,
        head=dict(type='LinearClsHead', **head),
    )


def put_into_hub_cache(cache: Path, repository: str) -> Path:
    """The folder where the Hugging Face hub would keep its downloads."""
    folder = cache / f'models--{repository.replace("/", "--")}'
    snapshot = folder / 'snapshots' / ('0' * 40)
    snapshot.mkdir(parents=True)
    (folder / 'refs').mkdir()
    (folder / 'refs' / 'main').write_text('0' * 40)
    return snapshot


def whole_model(
    mlp_ratio: float = 4.0,
    text_layers: int = 1,
    context_length: int = 8,
) -> dict[str, object]:
    """The config of a small open_clip model."""
    vision = dict(layers=2, width=32, head_width=16, mlp_ratio=mlp_ratio)
    text = dict(context_length=context_length, vocab_size=49408)
    return dict(
        embed_dim=24,
        quick_gelu=True,
        vision_cfg=vision | dict(patch_size=8, image_size=32),
        text_cfg=text | dict(width=16, heads=2, layers=text_layers),
    )


@pytest.fixture
def tiny_model(tmp_path: Path) -> 'TinyModel':
    """A small random open_clip model with its config file."""
    return TinyModel.create(tmp_path / 'tiny.json')


@dataclasses.dataclass
class TinyModel:
    """A whole open_clip model (both towers), and the file of its config."""

    config: Path
    model: nn.Module

    @classmethod
    def create(cls, config: Path) -> 'TinyModel':
        import json

        model_cfg = whole_model()
        config.write_text(json.dumps(model_cfg))
        torch.manual_seed(0)
        model = open_clip.CLIP(**model_cfg)
        randomize(model.visual)
        return cls(config, model.eval())


def save_whole_model(folder: Path, **changes: object) -> nn.Module:
    """Write a random model with both towers as open_clip's training does.

    Args:
        folder (Path): Gets ``open_clip_config.json`` and
            ``open_clip_model.safetensors``.
        changes (object): Of the model config.
    """
    import json

    from safetensors.torch import save_file

    model_cfg = whole_model(mlp_ratio=2.0, text_layers=2, context_length=16)
    config = dict(
        model_cfg=model_cfg | changes,
        preprocess_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3),
    )
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f'local-dir:{folder}').eval()
    randomize(model)
    nn.init.constant_(model.logit_scale, 3.0)
    if model.logit_bias is not None:
        nn.init.constant_(model.logit_bias, -7.0)
    save_file(model.state_dict(), folder / 'open_clip_model.safetensors')
    return model
