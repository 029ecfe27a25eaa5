"""What a config can choose to compute less, beside the plain tower."""

import copy
import io
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmclip.analysis.parity import relative_difference
from mmclip.benchmark.models import Images, build_towers, last_of
from mmclip.benchmark.rounds import OURS, Case, Entry, peak_memory
from mmclip.models.token_merging import merge_tokens

MERGED = (0.5, 0.9)  # of the patches, in all blocks together
DROPPED = (0.25, 0.5)  # of the patches
SMALLER = 2 / 3  # of height and width, as 224 of 336


def option_cases(
    towers: Sequence[tuple[str, int]],
    precisions: Sequence[str],
    device: torch.device,
) -> Iterator[Case]:
    """Yield inference and training of each tower, plain and with options.

    Args:
        towers (Sequence[tuple[str, int]]): Names in ``TOWERS`` and batch
            sizes.
        precisions (Sequence[str]): ``'fp32'`` or ``'bf16'``, by autocast.
        device (torch.device): Where to compute.
    """
    for name, batch in towers:
        modules, _ = build_towers(name, device, False, ['none'])
        plain: Any = modules[OURS][0]
        for precision in precisions:
            images = Images(plain, batch, precision, device)
            what = f'batch {batch}, {precision}'
            ways = _inference(plain, quantizes=precision == 'fp32')
            yield _case(f'{name}, inference, {what}', images, ways)
            yield _case(f'{name}, training, {what}', images, _training(plain))


def _inference(plain: Any, *, quantizes: bool) -> dict[str, nn.Module]:
    ways = {OURS: plain.eval()}
    patches = plain.grid[0] * plain.grid[1]
    for share in MERGED:
        merging = copy.deepcopy(plain)
        per_block = max(1, round(share * patches / plain.depth))
        merge_tokens(merging, per_block)
        ways[f'{per_block} tokens merged per block'] = merging
    if quantizes and next(plain.parameters()).device.type == 'cpu':
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that torchao does it, too
            int8 = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
        sizes = f'{_megabytes(int8):.0f} of {_megabytes(plain):.0f} MB'
        ways[f'int8, {sizes}'] = int8
    return ways


def _training(plain: Any) -> dict[str, nn.Module]:
    ways = {OURS: copy.deepcopy(plain).train()}
    for rate in DROPPED:
        ways[f'patch_dropout={rate}'] = dropping = copy.deepcopy(ways[OURS])
        dropping.patch_dropout = rate
    ways['with_cp=True'] = checkpointing = copy.deepcopy(ways[OURS])
    checkpointing.with_cp = True
    ways['2/3 of the side'] = nn.Sequential(_Smaller(), ways[OURS])
    return ways


class _Smaller(nn.Module):
    """Reduces pixels; at a real run's, the loader does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = [round(SMALLER * side) for side in x.shape[-2:]]
        return F.interpolate(x, size, mode='area')


def _case(name: str, images: Images, ways: dict[str, nn.Module]) -> Case:
    entries = []
    for who, module in ways.items():
        tower = partial(last_of, module)
        training = module.training
        if training:
            call: Any = partial(images.train, module, tower)
            call()  # makes gradients, which are not counted
            peak = peak_memory(partial(images.backward, tower), images.device)
            module.zero_grad(set_to_none=True)
            difference = None
        else:
            call = partial(images.infer, tower)
            peak = peak_memory(call, images.device)
            wanted = images.infer(partial(last_of, ways[OURS]))
            difference = relative_difference(images.infer(tower), wanted)
        entries.append(Entry(who, call, difference, peak))
    return Case(name, entries)


def _megabytes(module: nn.Module) -> float:
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    return file.tell() / 1e6
