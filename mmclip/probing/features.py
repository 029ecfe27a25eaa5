"""Features of a frozen model, computed once and cached in files."""

import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from mmclip.checkpoint.files.atomic import atomic_file
from mmclip.engine.checks.folders import count_images
from mmclip.engine.checks.parts import parts_of
from mmclip.errors import DataError

FEATURES, SOURCE = 'features.npy', 'source.json'
LEAST_SECONDS = 2.0  # that are timed


@dataclass(frozen=True)
class Features:
    """The features of a data set.

    Args:
        features (np.ndarray): ``(N, C)``, float32, memory-mapped.
        labels (np.ndarray): ``(N,)``, int64; -1 for images with a list of
            labels.
        classes (tuple[str, ...]): The names of the classes.
        folder (Path): The folder of the cached files.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    folder: Path


def extract_features(
    model: nn.Module,
    cfg: Config,
    split: str,
    cache: str | Path,
    *,
    amp: bool = False,
    dataset: Any = None,
    announce: Callable[[int, float], None] | None = None,
) -> Features:
    """Compute the input of a classifier's linear layer, or read it from cache.

    Images of every split pass through the *test* pipeline, and the model is
    in eval mode. The cache folder is named after a hash of the model's config
    and weights (without the head), the pipeline, and the data set's paths and
    labels, with the sizes and dates of local files. Rows are NaN
    until they are computed, so that a killed extraction continues where it
    stopped. Under ``torchrun`` each process computes its own rows.

    Args:
        model (nn.Module): An mmpretrain classifier with its weights.
        cfg (Config): Its config, with the dataloaders.
        split (str): ``'train'``, ``'val'`` or ``'test'``.
        cache (str | Path): The folder of all caches, on a local disk.
        amp (bool): Whether to compute in mixed precision (bfloat16 on the
            CPU, float16 on a GPU). Defaults to False.
        dataset (Dataset | None): The split, from :func:`build_dataset`.
            Defaults to None: build it.
        announce (Callable | None): Called with the number of images and the
            seconds that they take, once some batches have been timed, if it
            is more than a few. Defaults to None.

    Raises:
        DataError: If the split has no pipeline of its own, or features are
            not finite.
    """
    if dataset is None:
        dataset = build_dataset(cfg, split)
    paths, labels = _list_images(dataset)
    config = model_config(cfg)
    source = dict(
        model=_plain({k: v for k, v in config.items() if k != 'head'}),
        # Only the type matters: some heads normalise features.
        head=str(config['head']['type']),
        weights=hash_weights(model),
        pipeline=_plain(cfg.test_dataloader.dataset.pipeline),
        precision=str(torch.get_autocast_dtype(get_device())) if amp else None,
        num_images=len(paths),
        paths_and_labels=_digest('\0'.join(paths) + str(labels.tolist())),
        files=_digest(str([_size_and_date(path) for path in paths])),
    )
    folder = Path(cache) / _digest(json.dumps(source, sort_keys=True))[:16]
    file = folder / FEATURES
    model.eval().to(get_device())
    if get_rank() == 0 and not _can_continue(file, len(paths)):
        width = next(_compute(model, cfg, dataset, [0], amp)).shape[1]
        with atomic_file(folder / SOURCE) as new:
            text = json.dumps(source, indent=2)
            new.write_text(text + '\n', encoding='utf-8')
        with atomic_file(file) as new:
            _write_nans(new, len(paths), width)
    barrier()  # now the file exists
    features = np.load(file, mmap_mode='r+')
    sums = features.sum(axis=1, dtype=np.float64)
    todo = np.flatnonzero(~np.isfinite(sums))
    print_log(
        f'{split}: {len(paths) - len(todo)} of {len(paths)} features are in '
        f'{folder}; {len(todo)} remain to be computed.',
        logger='current',
    )
    barrier()  # now every process knows which rows are missing
    mine = np.array_split(todo, get_world_size())[get_rank()]
    if len(mine):
        batches = _compute(model, cfg, dataset, mine.tolist(), amp)
        _write(batches, features, mine, folder, announce)
    barrier()  # now all rows are done
    classes = tuple(map(str, dataset.metainfo.get('classes') or ()))
    features = np.load(file, mmap_mode='r')
    return Features(features, labels, classes, folder)


def feature_shape(model: nn.Module, cfg: Config) -> tuple[int, ...]:
    """Return the shape of one test image's feature."""
    dataset = build_dataset(cfg, 'test')
    model.eval().to(get_device())
    features = next(_compute(model, cfg, dataset, [0], amp=False))
    return tuple(features.shape[1:])


def model_config(cfg: Config) -> dict[str, Any]:
    """Copy the model's config and complete it as mmengine's runner does.

    A model without ``data_preprocessor`` gets the config's top-level one.
    """
    model = copy.deepcopy(cfg.model)  # building the model changes it
    preprocessor = cfg.get('data_preprocessor')
    if preprocessor is not None:
        model.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
    return model


def build_dataset(cfg: Config, split: str) -> Any:
    """Build a split's data set with the test pipeline.

    Raises:
        DataError: If the split is missing or wraps other data sets.
    """
    for name in (split, 'test'):
        loader = cfg.get(f'{name}_dataloader')
        if loader is None or 'pipeline' not in loader.dataset:
            raise DataError(
                f'{name}_dataloader must have a dataset with its own '
                'pipeline (images pass through that of test_dataloader); it '
                f'has {loader and loader.dataset.get("type")}.'
            )
    pipeline = cfg.test_dataloader.dataset.pipeline
    dataset = cfg[f'{split}_dataloader'].dataset
    return DATASETS.build({**dataset, 'pipeline': pipeline})


def check_labels(dataset: Any, split: str) -> None:
    """Refuse a data set that does not give each image one label.

    It also refuses images that mmpretrain leaves out for their suffix.
    """
    for part in parts_of(dataset):
        count_images(part.dataset, split)
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        label = info.get('gt_label')
        if isinstance(label, int | np.integer):
            continue
        what = 'no label' if label is None else f'the labels {label}'
        raise DataError(
            f'{info["img_path"]} in the {split} set has {what}: a linear '
            'probe needs one label per image. Give '
            f'{split}_dataloader a data set with labels (with_label=True, '
            'not multi-label).'
        )


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of all weights except the head's, as hex digits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not name.startswith('head.'):
            digest.update(f'{name} {tensor.dtype} {tensor.shape}'.encode())
            # Flat, because a scalar cannot be viewed as bytes.
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()


def _list_images(dataset: Any) -> tuple[list[str], np.ndarray]:
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    pairs = [(str(info['img_path']), info['gt_label']) for info in infos]
    labels = [-1 if isinstance(label, list) else label for _, label in pairs]
    return [path for path, _ in pairs], np.array(labels, dtype=np.int64)


def _size_and_date(path: str) -> tuple[int, int] | None:
    """Return what changes with a local file, without reading it."""
    try:
        stat = os.stat(path)
    except OSError:  # such as an address
        return None
    return stat.st_size, stat.st_mtime_ns


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(cfg: Any) -> Any:
    """Turn a config into plain containers, without any ``init_cfg``."""
    if isinstance(cfg, dict):
        return {k: _plain(v) for k, v in cfg.items() if k != 'init_cfg'}
    return [_plain(v) for v in cfg] if isinstance(cfg, list | tuple) else cfg


def _can_continue(file: Path, num_images: int) -> bool:
    """Tell whether a file has the rows of earlier features."""
    try:
        # Memory-mapped, so that a wrong header cannot make it read too much.
        found = np.load(file, mmap_mode='r')
        problem = f'it is {found.shape} of {found.dtype}'
        if found.dtype == np.float32 and found.shape[:-1] == (num_images,):
            return True
    except FileNotFoundError:
        return False
    except (OSError, ValueError, EOFError) as error:
        problem = str(error)
    print_log(
        f'{file} is damaged and will be made again: {problem}.',
        logger='current',
        level=logging.WARNING,
    )
    return False


def _write_nans(path: Path, rows: int, width: int) -> None:
    """Write an array without a memory map, which a full disk would crash."""
    nans = np.full((1, width), np.nan, np.float32)
    header = np.lib.format.header_data_from_array_1_0(nans)
    with open(path, 'wb') as file:
        np.lib.format.write_array_header_1_0(
            file, header | dict(shape=(rows, width))
        )
        for _ in range(rows):
            file.write(nans.tobytes())


@torch.inference_mode()
def _compute(
    model: Any, cfg: Config, dataset: Dataset, rows: list[int], amp: bool
) -> Iterator[Tensor]:
    """Yield features of rows in batches, ``(B, C)``."""
    loader = Runner.build_dataloader(
        {
            **cfg.test_dataloader,
            'dataset': Subset(dataset, rows),
            'sampler': torch.utils.data.SequentialSampler(rows),
            'drop_last': False,
        }
    )
    device = get_device()
    precision = torch.autocast(device) if amp else nullcontext()
    for batch in loader:
        inputs = model.data_preprocessor(batch, False)['inputs']
        with precision:
            features = model.extract_feat(inputs, stage='pre_logits')
        yield features.float().cpu()


def _write(
    batches: Iterator[Tensor],
    features: np.memmap,
    rows: np.ndarray,
    folder: Path,
    announce: Callable[[int, float], None] | None,
) -> None:
    """Write batches into their rows of a memory-mapped array."""
    written = timed_from = 0
    start = 0.0
    # None: off unless in a terminal.
    disable = True if get_rank() else None
    with tqdm(
        total=len(rows), unit='image', disable=disable, leave=False
    ) as progress:
        for batch in batches:
            where = rows[written : written + len(batch)]
            if not batch.isfinite().all():
                raise DataError(
                    'The model gives NaN or infinite features for images '
                    f'{where[0]} to {where[-1]} of {folder}; try without '
                    '--amp, or check its weights.'
                )
            features[where] = batch.numpy()
            features.flush()
            written += len(batch)
            progress.update(len(batch))
            if not timed_from:  # the first batch waits for the workers
                start, timed_from = time.perf_counter(), written
                continue
            passed = time.perf_counter() - start
            if announce and passed > LEAST_SECONDS:
                rate = (written - timed_from) / passed
                announce(len(rows), len(rows) / rate)
                announce = None
