"""How time and memory grow with what a user chooses."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mmclip.benchmark.gpu import Photos, exhaust
from mmclip.benchmark.models import Images, last_of
from mmclip.benchmark.pipelines import CROP, PEERS, make_photos
from mmclip.benchmark.rounds import OURS, peak_memory, time_in_turn
from mmclip.markdown import markdown_table
from mmclip.models import CLIPVisionTransformer
from mmclip.probing.logistic import LogisticRegression

# Of ViT-B/16 with three blocks, so that all of it takes minutes.
TOWER = dict(width=768, depth=3, num_heads=12)
BATCH, SIDE, LARGE = 2, 224, 448
CHOICES: dict[str, tuple[str, Sequence[int]]] = dict(
    batch=('images of a batch', (1, 2, 4, 8)),
    side=('pixels of a side', (112, 224, 448)),
    depth=('blocks', (1, 3, 6)),
    width=('channels', (384, 768, 1536)),
)
SIDES, WINDOW = (512, 768, 1024), 14  # pixels, and patches
CHANNELS = 512  # of the features that are probed
CLASSES = (10, 40, 160)
SHOTS, MORE_SHOTS = 20, (20, 80, 320)  # images per class
HEADER = ('what', 'value', 'seconds', 'MiB', 'seconds grow with its power of')


@dataclass
class Growth:
    """Times over the values of one choice.

    Args:
        what (str): What is done, and what is chosen.
        values (list[float]): What was tried, rising.
        seconds (list[float]): Medians.
        peaks (list[int | None]): Bytes that torch allocates beyond weights.
    """

    what: str
    values: list[float]
    seconds: list[float]
    peaks: list[int | None]

    def powers(self) -> list[float]:
        """Return log(time) / log(value) between neighbours; 1 is linear."""
        return [
            math.log(self.seconds[i] / self.seconds[i - 1])
            / math.log(self.values[i] / self.values[i - 1])
            for i in range(1, len(self.values))
        ]


def growths(device: torch.device, rounds: int) -> Iterator[Growth]:
    """Time each choice, the others being fixed.

    Args:
        device (torch.device): Where towers compute.
        rounds (int): How many rounds count.
    """
    for training in False, True:
        work = 'training' if training else 'inference'
        run: Any = partial(_tower, device=device, training=training)
        for key, (what, values) in CHOICES.items():
            calls = {v: run(**{key: v}) for v in values}
            yield _measure(f'{work}, {what}', calls, rounds, device)
    _, depths = CHOICES['depth']
    for with_cp in False, True:
        run = partial(_tower, side=LARGE, device=device, training=True)
        calls = {v: run(depth=v, with_cp=with_cp) for v in depths}
        name = f'training at {LARGE} px, blocks, {with_cp=}'
        yield _measure(name, calls, rounds, device)
    yield from window_growths(device, rounds)
    with TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), (500, 375), 16)
        loaders = {
            workers: partial(exhaust, _loader(paths, workers))
            for workers in sorted({1, 2, os.cpu_count() or 1})
        }
        yield _measure('512 photos, workers', loaders, rounds)
    few, *_ = CLASSES
    probes = {few * n: _probe(few, few * n) for n in MORE_SHOTS}
    yield _measure(f'a probe of {few} classes, images', probes, rounds)
    probes = {n: _probe(n, n * SHOTS) for n in CLASSES}
    yield _measure(
        f'a probe of {SHOTS} images per class, classes', probes, rounds
    )


def window_growths(device: torch.device, rounds: int) -> Iterator[Growth]:
    """Time large images, with windows in all blocks but the last and without.

    One block of three is global, as four of twelve are in ViTDet.
    """
    for window_size in 0, WINDOW:
        calls = {
            side: _tower(
                side=side,
                batch=1,
                window_size=window_size,
                device=device,
                training=True,
            )
            for side in SIDES
        }
        name = f'training one image, pixels of a side, {window_size=}'
        yield _measure(name, calls, rounds, device)


def _measure(
    what: str,
    calls: Mapping[int, Callable[[], Any]],
    rounds: int,
    device: torch.device | None = None,
) -> Growth:
    for call in calls.values():
        call()
    named = {str(value): call for value, call in calls.items()}
    kept, _ = time_in_turn(named, rounds)
    return Growth(
        what,
        [*calls],
        [median(times[name] for times in kept) for name in named],
        [peak_memory(c, device) if device else None for c in calls.values()],
    )


def _tower(
    *,
    device: torch.device,
    training: bool,
    with_cp: bool = False,
    window_size: int = 0,
    **changes: int,
) -> Callable[[], Any]:
    chosen = TOWER | dict(batch=BATCH, side=SIDE) | changes
    width = chosen['width']
    model = CLIPVisionTransformer(
        dict(
            width=width,
            depth=chosen['depth'],
            num_heads=chosen['num_heads'],
            mlp_width=4 * width,
        ),
        act='quick_gelu',
        img_size=chosen['side'],
        out_type='avg_featmap',
        with_cp=with_cp,
        window_size=window_size,
        global_blocks=[-1] if window_size else None,
    )
    model.to(device).train(training)
    images = Images(model, chosen['batch'], 'fp32', device)
    tower = partial(last_of, model)
    if not training:
        return partial(images.infer, tower)
    return partial(images.train, model, tower)


def _loader(paths: Sequence[str], workers: int) -> DataLoader:
    made = PEERS[OURS](CROP)
    assert made is not None
    return DataLoader(
        Photos(made[0], list(paths)),
        batch_size=64,
        num_workers=workers,
        persistent_workers=True,
    )


def _probe(classes: int, images: int) -> Callable[[], Any]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, CHANNELS))
    labels = np.arange(images) % classes
    noise = 3 * random.normal(size=(images, CHANNELS))
    features = (centres[labels] + noise).astype(np.float32)

    def call() -> None:
        LogisticRegression(features, labels, classes).fit(1.0)

    return call


def to_table(found: Sequence[Growth]) -> str:
    """Format as Markdown, one line per value."""
    body = []
    for growth in found:
        powers = ['', *(f'{power:.2f}' for power in growth.powers())]
        for i, value in enumerate(growth.values):
            peak = growth.peaks[i]
            body.append(
                [
                    growth.what if i == 0 else '',
                    f'{value:g}',
                    f'{growth.seconds[i]:.3g}',
                    '' if peak is None else f'{peak / 2**20:.0f}',
                    powers[i],
                ]
            )
    return markdown_table(HEADER, body)


def plot_growths(found: Sequence[Growth], out: Path) -> None:
    """Draw times over values, both relative to the smallest value."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout='constrained')
    axis = figure.subplots()
    for growth in found:
        values = np.array(growth.values) / growth.values[0]
        seconds = np.array(growth.seconds) / growth.seconds[0]
        axis.plot(values, seconds, marker='o', label=growth.what)
    axis.set(
        xscale='log',
        yscale='log',
        xlabel='times the smallest value',
        ylabel='times its time',
    )
    axis.legend(fontsize='small')
    figure.savefig(out)
