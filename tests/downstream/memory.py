"""Measure the memory of a training step of a backbone alone, as Markdown.

    python tests/downstream/memory.py 512 768 1024

For one image and B/16, without weights, gradients and optimizer: the most
bytes that torch holds at a time during forward and backward, in GiB.
"""

import sys
from contextlib import nullcontext

import torch

from mmclip.benchmark.rounds import peak_memory
from mmclip.models import CLIPVisionTransformer

WINDOW = 16
WAYS = {'float32': (False, False), 'bfloat16': (True, False)}
WAYS['float32, with_cp'] = (False, True)
WAYS['bfloat16, with_cp'] = (True, True)


def measure(size: int, window: int, bfloat16: bool, with_cp: bool) -> float:
    """Return GiB of a step with a square image of ``size`` pixels."""
    torch.manual_seed(0)
    model = CLIPVisionTransformer(
        'base',
        act='quick_gelu',
        img_size=size,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
        window_size=window,
        with_cp=with_cp,
    )
    image = torch.randn(1, 3, size, size)
    for param in model.parameters():  # so that no gradient is counted
        param.grad = torch.zeros_like(param)

    def step() -> None:
        context = torch.autocast('cpu', torch.bfloat16)
        with context if bfloat16 else nullcontext():
            maps = model(image)
        sum(m.float().mean() for m in maps).backward()

    return peak_memory(step, torch.device('cpu')) / 2**30


def main(sizes: list[int]) -> None:
    print(f'| pixels | attention | {" | ".join(WAYS)} |')
    print(f'| --: | :-- | {" | ".join("--:" for _ in WAYS)} |')
    for size in sizes:
        for window in (0, WINDOW):
            found = [measure(size, window, *way) for way in WAYS.values()]
            kind = f'windows of {window}' if window else 'global'
            cells = ' | '.join(f'{gib:.2f}' for gib in found)
            print(f'| {size} | {kind} | {cells} |', flush=True)


if __name__ == '__main__':
    main([int(word) for word in sys.argv[1:]])
