import pytest
import torch
import torch.nn.functional as F

from mmclip.few_shot.method import Encoded
from mmclip.named_model.encoder import Projection
from mmclip.text.class_embeddings import ClassEmbeddings


def make_images(
    per_class: tuple[int, ...] = (5, 4, 6), seed: int = 0
) -> Encoded:
    """Images of classes that overlap, with a text that half knows them."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    number, channels, width = len(per_class), 10, 6
    labels = torch.arange(number).repeat_interleave(torch.tensor(per_class))
    centres = noise(number, channels)
    pooled = centres[labels] + noise(len(labels), channels)
    weight = noise(channels, width) / channels**0.5
    text = F.normalize(centres @ weight + noise(number, width), dim=-1)
    return Encoded(
        pooled,
        labels,
        number,
        Projection(weight),
        ClassEmbeddings(text, 20.0, -1.0),
    )


@pytest.fixture
def train() -> Encoded:
    """Training images."""
    return make_images()


@pytest.fixture
def new() -> torch.Tensor:
    """Features of other images."""
    return make_images(seed=1).pooled
