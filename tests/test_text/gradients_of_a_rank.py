"""A process that writes what data-parallel training of two averages to.

Its argument is a folder with a folder for each rank.
"""

import sys
from pathlib import Path

import torch

from tests.test_text.test_contrastive_classifier import batch, make_twins


def main(folder: Path) -> None:
    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    model, _ = make_twins(folder / str(rank))
    images, samples = batch()
    half = slice(2 * rank, 2 * rank + 2)
    model.train()
    model.loss(images[half], samples[half])['loss'].backward()
    gradients = []
    for parameter in (model.backbone.proj, model.text.clip.logit_scale):
        torch.distributed.all_reduce(parameter.grad)
        gradients.append(parameter.grad / 2)
    if rank == 0:
        torch.save(gradients, folder / 'gradients.pt')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
