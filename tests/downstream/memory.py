"""Count the memory of a training step of a backbone alone, as Markdown.

    python tests/downstream/memory.py 512 768 1024

For one image and B/16, in GiB: the most that torch would hold at a time during
forward and backward, without weights, gradients and optimizer. Nothing is
computed: torch's tracker adds up the tensors that would be. With --run, it is
computed, and torch's allocations on this CPU are added up instead.
"""

import sys
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from mmclip.benchmark.rounds import peak_memory
from mmclip.models import CLIPVisionTransformer

WINDOW = 16
WAYS = {  # whether bfloat16, whether with_cp
    'float32': (False, False),
    'bfloat16': (True, False),
    'float32, with_cp': (False, True),
    'bfloat16, with_cp': (True, True),
}


def make_step(
    size: int, window: int, bfloat16: bool, with_cp: bool, **changes: Any
) -> tuple[nn.Module, Any]:
    """Return a model, and a function that does a step with its weights."""
    settings = dict(arch='base', out_indices=(2, 5, 8, 11)) | changes
    model = CLIPVisionTransformer(
        act='quick_gelu',
        img_size=size,
        out_type='featmap',
        window_size=window,
        with_cp=with_cp,
        **settings,
    )

    def step() -> None:
        image = torch.randn(1, 3, size, size)
        context = torch.autocast('cpu', torch.bfloat16)
        with context if bfloat16 else nullcontext():
            maps = model(image)
        sum(m.float().mean() for m in maps).backward()

    return model, step


def count(*case: Any, **changes: Any) -> int:
    """Return the bytes of a step that is not run."""
    model, step = make_step(*case, **changes)
    with FakeTensorMode():
        for module in model.modules():
            for name, param in module._parameters.items():
                if param is not None:
                    fake = nn.Parameter(torch.empty(param.shape))
                    fake.grad = torch.empty(param.shape)
                    module._parameters[name] = fake
        tracker = MemTracker()
        tracker.track_external(model)
        with tracker:
            step()
    (found,) = tracker.get_tracker_snapshot('peak').values()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return found['Total'] - 2 * weights  # these and their gradients


def run(*case: Any, **changes: Any) -> int:
    """Return the bytes of a step that is run."""
    model, step = make_step(*case, **changes)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    return peak_memory(step, torch.device('cpu'))


def main(words: list[str]) -> None:
    measure = run if '--run' in words else count
    print(f'| pixels | attention | {" | ".join(WAYS)} |')
    print(f'| --: | :-- | {" | ".join("--:" for _ in WAYS)} |')
    for size in (int(word) for word in words if word != '--run'):
        for window in (0, WINDOW):
            found = [measure(size, window, *way) for way in WAYS.values()]
            kind = f'windows of {window}' if window else 'global'
            cells = ' | '.join(f'{number / 2**30:.2f}' for number in found)
            print(f'| {size} | {kind} | {cells} |', flush=True)


if __name__ == '__main__':
    main(sys.argv[1:])
