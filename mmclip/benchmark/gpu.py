"""What decides the speed on a GPU beyond the tables of the other files."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset

from mmclip.benchmark.models import (
    Images,
    Tower,
    build_towers,
    last_of,
    model_cases,
)
from mmclip.benchmark.pipelines import CROP, FASTER, PEERS, make_photos
from mmclip.benchmark.rounds import OURS, Case, Entry
from mmclip.markdown import markdown_table

RIVALS = ('timm', 'open_clip')
ATTENTION = {
    'flash': SDPBackend.FLASH_ATTENTION,
    'cuDNN': SDPBackend.CUDNN_ATTENTION,
    'memory-efficient': SDPBackend.EFFICIENT_ATTENTION,
    'plain': SDPBackend.MATH,
}
LOADED = 512  # images that a loader's turn takes
MOST = 2**14  # images of the largest batch that is tried


def towers_for(device: torch.device) -> list[tuple[str, int]]:
    """Return the towers and batch sizes to time: on a CPU, a tiny one."""
    if device.type == 'cuda':
        return [('ViT-B-16', 256), ('ViT-L-14-336', 32)]
    return [('tiny', 2)]


def gpu_cases(device: torch.device) -> Iterator[Case]:
    """Yield towers beside rivals, then what a config can choose."""
    towers = towers_for(device)
    one = partial(model_cases, precisions=['bf16'], device=device)
    yield from one(towers, training=False, only=RIVALS)
    yield from one(towers, training=True, only=RIVALS)
    yield from one(towers[:1], training=True, only=RIVALS[:1], compiled=True)
    for name, batch in towers:
        module, tower = build_towers(name, device, True, ['none'])[0][OURS]
        images = Images(module, batch, 'bf16', device)
        train = partial(images.train, module, tower)
        case = f'{name}, training, batch {batch}, bf16'
        yield attention_case(case, train)
        yield layout_case(case, images, module, train)
        yield optimizer_case(name, module)
    with loader_case() as case_of_loaders:
        yield case_of_loaders


def attention_case(case: str, train: Callable[[], Any]) -> Case:
    """Return a training step with each kernel of attention that works."""
    entries, missing = [Entry(OURS, train)], []
    for name, backend in ATTENTION.items():

        def call(backend: SDPBackend = backend) -> None:
            with sdpa_kernel(backend):
                train()

        try:
            call()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # this device, or this precision, has none
            missing.append(f'{name} (not for this device)')
        else:
            entries.append(Entry(name, call))
    return Case(f'{case}: kernels of attention', entries, missing)


def layout_case(
    case: str, images: Images, module: nn.Module, train: Callable[[], Any]
) -> Case:
    """Return a training step with pixels in another order in memory."""
    other = copy.deepcopy(module).to(memory_format=torch.channels_last)
    pixels = images.images.to(memory_format=torch.channels_last)

    def call() -> None:
        other.zero_grad(set_to_none=True)
        images.backward(partial(last_of, other), pixels)

    return Case(
        f'{case}: order of pixels in memory',
        [Entry(OURS, train), Entry('channels_last', call)],
    )


def optimizer_case(name: str, module: nn.Module) -> Case:
    """Return a step of AdamW; our configs have ``fused=True``."""
    ways: dict[str, dict[str, Any]] = {
        OURS: dict(fused=True),
        'foreach': dict(foreach=True),
        'one by one': dict(foreach=False),
    }
    entries = []
    for who, options in ways.items():
        params = [
            torch.randn_like(p).requires_grad_() for p in module.parameters()
        ]
        for param in params:
            param.grad = torch.randn_like(param)
        entries.append(Entry(who, torch.optim.AdamW(params, **options).step))
    return Case(f'{name}: a step of AdamW, fused in our configs', entries)


@contextmanager
def loader_case() -> Iterator[Case]:
    """Yield loaders with as many workers as there are cores."""
    workers = os.cpu_count() or 1
    entries = []
    with TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), (500, 375), 16)
        for name in (OURS, FASTER, *RIVALS):
            made = PEERS[name](CROP)
            if made is None:
                continue
            loader = DataLoader(
                Photos(made[0], paths),
                batch_size=64,
                num_workers=workers,
                persistent_workers=True,
            )
            entries.append(Entry(name, partial(exhaust, loader)))
        yield Case(
            f'{CROP}, {LOADED} JPEGs of 500x375, {workers} workers', entries
        )


class Photos(Dataset):
    """The pixels of a few files, again and again."""

    def __init__(self, pipeline: Callable[[str, int], Any], paths: list[str]):
        self.pipeline, self.paths = pipeline, paths

    def __len__(self) -> int:
        return LOADED

    def __getitem__(self, index: int) -> Any:
        """Return an image as its library's pipeline does."""
        output = self.pipeline(self.paths[index % len(self.paths)], index)
        return output['inputs'] if isinstance(output, dict) else output


def exhaust(loader: DataLoader) -> None:
    """Take every batch once."""
    for _ in loader:
        pass


def largest_batches(device: torch.device) -> str:
    """Return a table of the most images that a training step can hold."""
    if device.type != 'cuda':
        return f'Largest batches: not looked for on a {device.type}.\n'
    body = []
    for name, _ in towers_for(device):
        modules, _ = build_towers(name, torch.device('cpu'), True, RIVALS)
        ours: Any = modules[OURS][0]
        saving = copy.deepcopy(ours)
        saving.with_cp = True
        modules['mmclip, with_cp=True'] = (saving, partial(last_of, saving))
        for who, (module, tower) in modules.items():
            module.to(device)
            most = _largest(ours, module, tower, device)
            module.to('cpu')
            torch.cuda.empty_cache()
            body.append([name, who, f'{most:,}'])
    heading = '**Largest batch of a training step, bf16**\n\n'
    return heading + markdown_table(['tower', 'who', 'images'], body)


def _largest(
    ours: Any, module: nn.Module, tower: Tower, device: torch.device
) -> int:
    """Double the batch until it does not fit, then halve the interval."""
    fits, fails = 0, 2 * MOST
    while fails - fits > max(8, fits // 32):
        batch = max(8, 2 * fits) if fails > MOST else (fits + fails) // 2
        if batch > MOST:
            break
        try:
            Images(ours, batch, 'bf16', device).train(module, tower)
            fits = batch
        except torch.OutOfMemoryError:
            fails = batch
        module.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
    return fits
