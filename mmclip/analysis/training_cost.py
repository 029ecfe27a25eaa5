"""What a training run costs, counted without running it."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from mmclip.analysis.complexity import image_size


@dataclass(frozen=True)
class TrainingCost:
    """Counted, not measured.

    Args:
        params (int): Parameters that are trained.
        flops_per_image (int): Floating-point operations of forward and
            backward, a multiplication and an addition as two.
        bytes_per_image (int): Of the activations that autograd keeps, with
            autocast to bfloat16.
        bytes_of_states (int): Of weights, gradients, the two moments of AdamW
            and, if there is an EMA, its weights, in float32.
    """

    params: int
    flops_per_image: int
    bytes_per_image: int
    bytes_of_states: int

    def gpu_hours(self, images: float, tflops: float) -> float:
        """Of a GPU that does so many 10**12 operations a second in training.

        Args:
            images (float): How many, all epochs together.
            tflops (float): What is reached, not the peak.
        """
        return self.flops_per_image * images / (tflops * 1e12) / 3600

    def memory(self, batch_size: int) -> int:
        """Bytes on a GPU without what allocators and kernels add."""
        return self.bytes_of_states + batch_size * self.bytes_per_image


def count_training_cost(cfg: Config) -> TrainingCost:
    """Count for the model of a config, without memory for its weights.

    Args:
        cfg (Config): A config whose ``model`` is a classifier with a
            :class:`CLIPVisionTransformer` or
            :class:`SigLIPVisionTransformer`; LoRA looks at its weights, of
            which there are none here.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    size = image_size(cfg)
    model_cfg = copy.deepcopy(cfg.model)
    model_cfg.backbone.init_cfg = None  # no file is needed
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = MODELS.build(model_cfg).train()
        # Two, so that what all images share is not counted as an image's.
        one, flops = _count(model, 1, size)
        two, _ = _count(model, 2, size)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    has_ema = any(h.type == 'EMAHook' for h in cfg.get('custom_hooks') or [])
    return TrainingCost(
        params=trained,
        flops_per_image=flops,
        bytes_per_image=two - one,
        bytes_of_states=4 * ((1 + has_ema) * everything + 3 * trained),
    )


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _attention_backward(
    grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any
) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


# Of shapes. torch 2.10 itself counts attention on GPUs only.
_aten = torch.ops.aten
_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _attention_backward
    ),
}


def _count(
    model: nn.Module, batch: int, size: tuple[int, int]
) -> tuple[int, int]:
    """Bytes kept for the backward pass, and operations of both."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    images = torch.zeros(batch, 3, *size)
    with (
        FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast('cpu', torch.bfloat16),
    ):
        model(images).float().logsumexp(dim=1).sum().backward()
    model.zero_grad()
    return sum(kept.values()), counter.get_total_flops()
