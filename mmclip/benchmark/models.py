"""Our image towers beside those of other libraries, with the same weights."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmclip.analysis.parity import randomize, relative_difference
from mmclip.benchmark.rounds import (
    OURS,
    YARDSTICK,
    Case,
    Entry,
    peak_memory,
)
from mmclip.checkpoint.towers.convert import export
from mmclip.checkpoint.towers.dialects import HF_CLIP, OPEN_CLIP, TIMM
from mmclip.checkpoint.towers.hugging_face import model_config
from mmclip.checkpoint.towers.timm import timm_arguments
from mmclip.checkpoint.towers.tower import CLIP, build_backbone
from mmclip.errors import ArgumentError

# Pixels are normally distributed, and so are weights as CLIP draws them; norms
# and biases differ from ones and zeros, so that each is compared.
TOWERS: dict[str, dict[str, Any]] = {
    'tiny': dict(
        arch=dict(width=64, depth=2, num_heads=2, mlp_width=256),
        patch_size=16,
        img_size=32,
    ),
    'ViT-B-16': dict(arch='base', patch_size=16),
    'ViT-L-14': dict(arch='large', patch_size=14),
    'ViT-L-14-336': dict(arch='large', patch_size=14, img_size=336),
}
DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16)
# Of outputs and of gradients with respect to pixels, over the largest value.
TOLERANCES = dict(fp32=1e-3, bf16=0.1)
Tower = Callable[[Tensor], Tensor]  # (B, 3, height, width) to (B, C)
# Makes a library's module and the function from pixels to the class token.
Peer = Callable[[dict[str, Any], dict[str, Tensor]], tuple[nn.Module, Tower]]


def model_cases(
    towers: Sequence[tuple[str, int]],
    precisions: Sequence[str],
    device: torch.device,
    *,
    training: bool,
    compiled: bool = False,
    only: Sequence[str] = (),
) -> Iterator[Case]:
    """Yield cases of inference, or of a forward and backward pass.

    Args:
        towers (Sequence[tuple[str, int]]): Names in ``TOWERS`` and batch
            sizes.
        precisions (Sequence[str]): ``'fp32'`` or, by autocast, ``'bf16'``.
        device (torch.device): Where to compute.
        training (bool): Whether gradients are computed.
        compiled (bool): Also time each with ``torch.compile``. Defaults to
            False.
        only (Sequence[str]): The peers to include; none for all.
    """
    for name, batch in towers:
        modules, missing = build_towers(name, device, training, only)
        for precision in precisions:
            work = 'training' if training else 'inference'
            case = f'{name}, {work}, batch {batch}, {precision}'
            images = Images(modules[OURS][0], batch, precision, device)
            entries = [
                entry
                for peer in modules
                for entry in _entries(
                    peer, modules, images, training, compiled
                )
            ]
            for entry in entries:
                if (entry.difference or 0) > TOLERANCES[precision]:
                    raise ArgumentError(
                        f'{case}: {entry.name} and {OURS} differ by '
                        f'{entry.difference:.1e} of the largest value, more '
                        f'than {TOLERANCES[precision]:.0e}.'
                    )
            entries.append(images.matrix_product())
            yield Case(case, entries, missing)


def build_towers(
    name: str, device: torch.device, training: bool, only: Sequence[str]
) -> tuple[dict[str, tuple[nn.Module, Tower]], list[str]]:
    """Build ours and its peers, with the same random weights.

    Returns:
        tuple[dict, list[str]]: The modules and what calls them by name, and
        the names of libraries that are not installed.
    """
    torch.manual_seed(0)
    cfg = dict(type=CLIP, act='quick_gelu') | TOWERS[name]
    ours = build_backbone(cfg)
    randomize(ours)
    described = dict(img_size=224) | dict(type=CLIP) | ours.architecture()
    towers: dict[str, tuple[nn.Module, Tower]] = {
        OURS: (ours, partial(last_of, ours))
    }
    missing = []
    for peer, build in PEERS.items():
        if only and peer not in only:
            continue
        try:
            towers[peer] = build(described, ours.state_dict())
        except ImportError as error:
            missing.append(f'{peer} ({error})')
    for module, _ in towers.values():
        module.to(device).train(training)
    return towers, missing


def last_of(module: nn.Module, images: Tensor) -> Tensor:
    """Return the last output of a backbone."""
    return module(images)[-1]


class Images:
    """A batch, and what is done with it.

    Args:
        ours (Any): Our backbone, which tells the sizes.
        batch (int): The number of images.
        precision (str): One of ``DTYPES``.
        device (torch.device): Where they are.
    """

    def __init__(
        self, ours: Any, batch: int, precision: str, device: torch.device
    ):
        self.images = torch.randn(batch, 3, *ours.img_size, device=device)
        self.direction = torch.randn(batch, ours.width, device=device)
        self.ours, self.device = ours, device
        self.dtype = DTYPES[precision]

    def infer(self, tower: Tower) -> Tensor:
        """Return the features, without gradients."""
        with torch.inference_mode(), self._autocast():
            return tower(self.images)

    def train(self, module: nn.Module, tower: Tower) -> None:
        """Compute new gradients."""
        module.zero_grad(set_to_none=True)
        self.backward(tower)

    def backward(self, tower: Tower, pixels: Tensor | None = None) -> Tensor:
        """Add the gradients of one pass, and return the features."""
        with self._autocast():
            features = tower(self.images if pixels is None else pixels)
        (features.float() * self.direction).sum().backward()
        return features.detach().float()

    def outputs(self, tower: Tower, training: bool) -> list[Tensor]:
        """Return features and, in training, the gradient of the pixels."""
        if not training:
            return [self.infer(tower).float()]
        pixels = self.images.clone().requires_grad_()
        features = self.backward(tower, pixels)
        return [features, cast(Tensor, pixels.grad)]

    def matrix_product(self) -> Entry:
        """Make the yardstick: the first product of the MLP of each block."""
        arch = self.ours.arch
        rows = len(self.images) * self._tokens()
        make = partial(torch.randn, device=self.device, dtype=self.dtype)
        a, b = make(rows, arch.width), make(arch.width, arch.mlp_width)
        out = make(rows, arch.mlp_width)

        def call() -> None:
            for _ in range(arch.depth):
                torch.mm(a, b, out=out)

        work = 2 * arch.depth * rows * arch.width * arch.mlp_width
        return Entry(YARDSTICK, call, work=work)

    def operations(self) -> float:
        """Return the operations of the products of a plain forward pass.

        A multiplication and an addition are two.
        """
        arch, tokens = self.ours.arch, self._tokens()
        per_token = 4 * arch.width + 2 * arch.mlp_width + 2 * tokens
        patches = tokens - self.ours.num_prefix_tokens
        stem = patches * 3 * arch.patch_size**2 * arch.width
        blocks = arch.depth * tokens * arch.width * per_token
        return 2 * len(self.images) * (stem + blocks)

    def _tokens(self) -> int:
        rows, columns = self.ours.grid
        return rows * columns + self.ours.num_prefix_tokens

    def _autocast(self) -> torch.autocast:
        is_half = self.dtype != torch.float32
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=is_half
        )


def _entries(
    name: str,
    modules: dict[str, tuple[nn.Module, Tower]],
    images: Images,
    training: bool,
    compiled: bool,
) -> Iterator[Entry]:
    module, tower = modules[name]
    wanted = images.outputs(modules[OURS][1], training)
    difference = max(
        map(relative_difference, images.outputs(tower, training), wanted)
    )
    work = images.operations() * (3 if training else 1)

    def call(tower: Tower) -> Callable[[], Any]:
        if training:
            return partial(images.train, module, tower)
        return partial(images.infer, tower)

    # Gradients exist since the comparison, so they are not counted.
    once = images.backward if training else images.infer
    peak = peak_memory(partial(once, tower), images.device)
    module.zero_grad(set_to_none=True)
    yield Entry(name, call(tower), difference, peak, work)
    if compiled:
        torch._dynamo.reset()
        way = torch.compile(tower)
        yield Entry(f'{name}, compiled', call(way), difference, work=work)


def _open_clip(
    cfg: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[nn.Module, Tower]:
    from open_clip.model import _build_vision_tower

    arch = cfg['arch']
    vision_cfg = dict(
        image_size=cfg['img_size'],
        patch_size=cfg['patch_size'],
        width=arch['width'],
        layers=arch['depth'],
        head_width=arch['width'] // arch['num_heads'],
        mlp_ratio=arch['mlp_width'] / arch['width'],
    )
    tower = _build_vision_tower(arch['width'], vision_cfg, quick_gelu=True)
    tower.proj = None
    tower.load_state_dict(export(weights, OPEN_CLIP))
    return tower, tower


def _timm(
    cfg: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[nn.Module, Tower]:
    from timm.models import VisionTransformer

    tower = VisionTransformer(**timm_arguments(cfg, 0))
    tower.load_state_dict(export(weights, TIMM))
    return tower, tower


def _mmpretrain(
    cfg: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[nn.Module, Tower]:
    from mmpretrain.models import VisionTransformer

    arch = cfg['arch']
    tower = VisionTransformer(
        dict(
            embed_dims=arch['width'],
            num_layers=arch['depth'],
            num_heads=arch['num_heads'],
            feedforward_channels=arch['mlp_width'],
        ),
        img_size=cfg['img_size'],
        patch_size=cfg['patch_size'],
        norm_cfg=dict(type='LN', eps=cfg['norm_eps']),
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        patch_cfg=dict(bias=False),
        pre_norm=True,
    )
    tower.load_state_dict(weights)
    return tower, partial(last_of, tower)


def _hugging_face(
    cfg: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[nn.Module, Tower]:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    settings = model_config(cfg, 'CLIPVisionModel')
    tower = CLIPVisionModel(CLIPVisionConfig(**settings))
    prefix = 'vision_model.' * hasattr(tower, 'vision_model')
    tower.load_state_dict(export(weights, HF_CLIP, prefix))
    return tower, lambda images: tower(images).pooler_output


PEERS: dict[str, Peer] = dict(
    open_clip=_open_clip,
    timm=_timm,
    mmpretrain=_mmpretrain,
    transformers=_hugging_face,
)
