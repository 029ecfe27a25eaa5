"""How a run of fine-tuning is set up, from the images and the machine."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

# Images per step: those of the few-shot papers that tune CLIP, such as CoOp
# (arXiv 2109.01134, section 4.1), and what a laptop's memory holds.
BATCH = 32
# FT-CLIP's peak rate for B/16, 6e-4 at 1,920 images per step and width 768
# (arXiv 2212.06138). AdamW's rate goes with the square root of the batch size
# (arXiv 2205.10287), and with one over the width (arXiv 2203.03466): 7.7e-5
# for 32 images and width 768.
LR, LR_IMAGES, LR_WIDTH = 6e-4, 1920, 768
LAYER_DECAY = 0.65  # FT-CLIP: 0.6 for B, 0.65 for L
WEIGHT_DECAY = 0.05  # FT-CLIP
# Each image is seen ten times, as in WiSE-FT (arXiv 2109.01903, appendix
# B.2), but there are at least so many steps, since a few images make few.
EPOCHS = 10
LEAST_STEPS, MOST_STEPS = 100, 5000
WARM_UP = 0.1  # of the steps; FT-CLIP's 5 of 30 and 10 of 50 epochs are 0.2
VALIDATIONS = 10
PATIENCE = 5  # validations without a gain; the last ones have the lowest rate
# The least area of a random crop. Few images are seen often, so they vary
# more; CLIP itself was trained with 0.9.
CROP_OF_FEW, CROP_OF_MANY, MANY = 0.6, 0.8, 1000
# A shorter run than this share of the steps ends before it has learned much.
SHORTEST = 0.3


@dataclass(frozen=True)
class Plan:
    """The settings of fine-tuning.

    Args:
        steps (int): Steps of the optimizer.
        batch_size (int): Images per step.
        lr (float): The peak rate of the head and the last norm.
        layer_decay (float): By which the rate falls from block to block.
        weight_decay (float): AdamW's.
        warm_up (int): Steps in which the rate rises.
        validate_every (int): Steps between two validations.
        frozen_stages (int): Blocks that do not change, with all that precedes
            them; -1 if everything is trained.
        least_crop (float): The least area of a random crop.
    """

    steps: int
    batch_size: int
    lr: float
    layer_decay: float
    weight_decay: float
    warm_up: int
    validate_every: int
    frozen_stages: int
    least_crop: float

    def shortened(self, steps: int) -> 'Plan':
        """Return the same plan with another number of steps."""
        return replace(
            self,
            steps=steps,
            warm_up=max(1, round(WARM_UP * steps)),
            validate_every=max(1, steps // VALIDATIONS),
        )


def make_plan(images: int, width: int) -> Plan:
    """Set up fine-tuning for a number of training images.

    Args:
        images (int): Training images.
        width (int): The tower's.
    """
    batch = min(BATCH, images)
    rate = LR * math.sqrt(batch / LR_IMAGES) * LR_WIDTH / width
    plan = Plan(
        steps=0,
        batch_size=batch,
        lr=float(f'{rate:.1e}'),
        layer_decay=LAYER_DECAY,
        weight_decay=WEIGHT_DECAY,
        warm_up=0,
        validate_every=0,
        frozen_stages=-1,
        least_crop=CROP_OF_FEW if images < MANY else CROP_OF_MANY,
    )
    steps = math.ceil(EPOCHS * images / batch)
    return plan.shortened(min(max(steps, LEAST_STEPS), MOST_STEPS))


def stages_to_freeze(depth: int, *, gpu: bool) -> list[int]:
    """Return how many blocks may be frozen, the best choice first.

    A GPU trains everything. A CPU trains the upper half if time is short: the
    backward pass takes twice the time of the forward pass, and ends where
    nothing below is trained. On the demo's digits, all blocks gain 2.5
    points, the upper half 1.3, the upper quarter 0.7.
    """
    return [-1] if gpu else [-1, depth // 2]


def shape_of(tower: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the width and the number of blocks of a tower."""
    found = (re.match(r'layers\.(\d+)\.', name) for name in tower)
    depth = 1 + max(int(match[1]) for match in found if match)
    return tower['pos_embed'].shape[-1], depth
