"""Input pipelines, from an image file to a tensor, on one core."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image
from torch import Tensor

from mmclip.analysis.parity import relative_difference
from mmclip.benchmark.rounds import OURS, Case, Entry
from mmclip.datasets.preprocessing import faster
from mmclip.datasets.resumable_sampler import SampleIndex, seed_everything

SIZE = 336
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP, of pixels in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)
FASTER = f'{OURS}, faster'
CROP, AUGMENT, TEST = 'crop and flip', 'RandAugment and erasing', 'test'
# What is done, width and height of the photos, and how many are one call.
WORK = (
    (CROP, (500, 375), 16),
    (AUGMENT, (500, 375), 16),
    (TEST, (500, 375), 16),
    (CROP, (4000, 3000), 2),
    (TEST, (4000, 3000), 2),
)
# From a path and a number that seeds it to whatever the library's loaders
# collate.
Pipeline = Callable[[str, int], Any]
# Makes the pipeline for one of CROP, AUGMENT and TEST, or returns None if the
# library has none, and a function from its output to RGB pixels in 0..1.
Peer = Callable[[str], tuple[Pipeline, Callable[[Any], Tensor]] | None]


def pipeline_cases(only: Sequence[str] = ()) -> Iterator[Case]:
    """Yield a case for each of ``WORK``; torch has one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for work, size, count in WORK:
                paths = make_photos(Path(folder), size, count)
                yield _case(work, size, paths, only)
    finally:
        torch.set_num_threads(threads)


def _case(
    work: str, size: tuple[int, int], paths: list[str], only: Sequence[str]
) -> Case:
    entries, missing, wanted = [], [], torch.zeros(0)
    for name, make in PEERS.items():
        if only and name not in (OURS, FASTER, *only):
            continue
        try:
            made = make(work)
        except ImportError as error:
            missing.append(f'{name} ({error})')
            continue
        if made is None:
            missing.append(f'{name} (has no such pipeline)')
            continue
        pipeline, to_pixels = made
        pixels = to_pixels(pipeline(paths[0], 0)).float()
        if name == OURS:
            wanted = pixels
        if pixels.shape != wanted.shape:
            raise ValueError(f'{name} gives {tuple(pixels.shape)}.')
        difference = relative_difference(pixels, wanted)
        entries.append(
            Entry(
                name,
                partial(_run, pipeline, paths),
                difference if work == TEST else None,
            )
        )
    case = f'{work}, {len(paths)} JPEGs of {size[0]}x{size[1]} to {SIZE}'
    return Case(case, entries, missing)


def _run(pipeline: Pipeline, paths: list[str]) -> None:
    seed_everything(0)
    for number, path in enumerate(paths):
        pipeline(path, number)


def make_photos(folder: Path, size: tuple[int, int], count: int) -> list[str]:
    """Write JPEGs of quality 90 with detail at all scales, as photos have."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        total = np.zeros((size[1], size[0], 3))
        for cells in (4, 16, 64, 256):
            coarse = random.integers(0, 256, (cells, cells, 3), np.uint8)
            smooth = Image.fromarray(coarse).resize(size)  # bicubic
            total += np.asarray(smooth)
        photo = Image.fromarray((total / 4).astype(np.uint8))
        path = folder / f'{size[0]}_{number}.jpg'
        photo.save(path, quality=90)
        paths.append(str(path))
    return paths


def _openmmlab(
    work: str, scope: str, change: Callable[[list], list] = list
) -> tuple[Pipeline, Callable[[Any], Tensor]]:
    method = dict(backend='pillow', interpolation='bicubic')
    mean = [255 * value for value in MEAN[::-1]]
    std = [255 * value for value in STD[::-1]]
    if work == TEST:
        steps = [
            dict(type='ResizeEdge', scale=SIZE, edge='short', **method),
            dict(type='CenterCrop', crop_size=SIZE),
        ]
    else:
        steps = [
            dict(type='RandomResizedCrop', scale=SIZE, **method),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        ]
    if work == AUGMENT:  # as configs/clip/clip-l-336.py
        steps += [
            dict(
                type=f'{scope}RandAugment',
                policies='timm_increasing',
                num_policies=2,
                total_level=10,
                magnitude_level=9,
                magnitude_std=0.5,
                hparams=dict(
                    pad_val=[round(m) for m in mean], interpolation='bicubic'
                ),
            ),
            dict(
                type=f'{scope}RandomErasing',
                erase_prob=0.25,
                mode='rand',
                min_area_ratio=0.02,
                max_area_ratio=1 / 3,
                fill_color=mean,
                fill_std=std,
            ),
        ]
    steps = [dict(type=f'{scope}LoadImageFromFile'), *steps]
    seed = [dict(type='mmclip.SeedSample')] if scope else []
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        compose = Compose([*seed, *change(steps), dict(type='PackInputs')])
    return (
        lambda path, seed: compose(
            dict(img_path=path, sample_idx=SampleIndex(seed, seed), gt_label=0)
        ),
        lambda output: output['inputs'].flip(0) / 255,
    )


def _timm(work: str) -> tuple[Pipeline, Callable[[Any], Tensor]]:
    from timm.data import create_transform

    augment: dict[str, Any] = {}
    if work == AUGMENT:
        augment = dict(
            auto_augment='rand-m9-mstd0.5-inc1', re_prob=0.25, re_mode='pixel'
        )
    transform = create_transform(
        SIZE,
        is_training=work != TEST,
        color_jitter=0.0,
        interpolation='bicubic',
        crop_pct=1.0,
        mean=MEAN,
        std=STD,
        **augment,
    )
    return _on_pil(transform), _to_pixels


def _open_clip(
    work: str,
) -> tuple[Pipeline, Callable[[Any], Tensor]] | None:
    from open_clip import AugmentationCfg, image_transform

    if work == AUGMENT:
        return None
    transform = image_transform(
        SIZE,
        is_train=work != TEST,
        mean=MEAN,
        std=STD,
        aug_cfg=AugmentationCfg(scale=(0.08, 1.0)),
    )
    return _on_pil(transform), _to_pixels


def _torchvision(
    work: str,
) -> tuple[Pipeline, Callable[[Any], Tensor]] | None:
    from torchvision.io import decode_image
    from torchvision.transforms import v2

    if work == AUGMENT:
        return None
    bicubic: Any = v2.InterpolationMode.BICUBIC
    steps: list[Any] = (
        [v2.Resize(SIZE, bicubic), v2.CenterCrop(SIZE)]
        if work == TEST
        else [
            v2.RandomResizedCrop(SIZE, interpolation=bicubic),
            v2.RandomHorizontalFlip(),
        ]
    )
    transform = v2.Compose(steps)
    return (
        lambda path, seed: transform(decode_image(path, mode='RGB')),
        lambda output: output / 255,
    )


def _on_pil(transform: Callable[[Any], Tensor]) -> Pipeline:
    """Open files as the loaders of timm and open_clip do."""
    return lambda path, seed: transform(Image.open(path).convert('RGB'))


def _to_pixels(output: Tensor) -> Tensor:
    """Undo the normalisation, which these libraries do in their loaders."""
    return (
        output * torch.tensor(STD)[:, None, None]
        + torch.tensor(MEAN)[:, None, None]
    )


PEERS: dict[str, Peer] = {
    OURS: partial(_openmmlab, scope='mmclip.'),
    FASTER: partial(_openmmlab, scope='mmclip.', change=faster),
    'mmpretrain': partial(_openmmlab, scope=''),
    'timm': _timm,
    'open_clip': _open_clip,
    'torchvision v2': _torchvision,
}
