"""SigLIP's image tower: a vision transformer that pools by attention.

Papers: Sigmoid Loss for Language Image Pre-Training
(https://arxiv.org/abs/2303.15343), SigLIP 2
(https://arxiv.org/abs/2502.14786). It computes the same as
``VisionTransformer`` in ``timm/models/vision_transformer.py`` with the
settings of its ``vit_*_siglip_*`` models.

Shapes: B batch, N patches, C channels (the width), H W patch grid.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmclip.errors import check_choice
from mmclip.models.architecture import Architecture, parse_arch
from mmclip.models.vit import ACTS, VisionTransformer, to_map
from mmclip.pos_embed import Grid
from mmclip.registry import MODELS

POOLS = ('attention', 'avg')


@MODELS.register_module()
class SigLIPVisionTransformer(VisionTransformer):
    """SigLIP's vision transformer as an OpenMMLab backbone.

    Unlike CLIP's, it has no class token, no norm before the blocks and no
    projection, and its patch embedding has a bias. The joint space is as wide
    as the tower.

    Args:
        arch (str | dict): As in :class:`CLIPVisionTransformer`.
        act (str): ``'gelu'`` or ``'gelu_tanh'``. There is no default, because
            the name of the weights does not reveal it.
        img_size (int | tuple[int, int]): Image height and width in pixels
            that the position embedding is made for. Defaults to 224.
        patch_size (int): Patch height and width in pixels. Defaults to 16.
        norm_eps (float): Epsilon of every LayerNorm. Defaults to 1e-6.
        pool (str): How the tower pools an image into a vector, after the
            final norm: ``'attention'``, by a learned query, or ``'avg'``, the
            mean (timm's ``gap`` models, PaliGemma's). Defaults to
            ``'attention'``.
        out_type (str): What to return for each index of ``out_indices``:

            - ``'pooled'``: one vector, ``(B, C)``; pooled by ``pool`` for the
              last block, the mean of the patches for the others.
            - ``'avg_featmap'``: the mean of the patch tokens, ``(B, C)``.
            - ``'raw'``: all tokens, ``(B, N, C)``.
            - ``'featmap'``: the patch tokens as a map, ``(B, C, H, W)``.
        out_indices (int | Sequence[int]): Blocks whose output is returned;
            the final norm is applied to the last block's. This argument and
            ``drop_path_rate``, ``patch_dropout``, ``frozen_stages``,
            ``freeze_patch_embed``, ``with_cp``, ``window_size``,
            ``global_blocks``, ``norm_outputs`` and ``init_cfg`` are as in
            :class:`CLIPVisionTransformer`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        arch: str | dict[str, Any],
        *,
        act: str,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        norm_eps: float = 1e-6,
        pool: str = 'attention',
        out_type: str = 'pooled',
        out_indices: int | Sequence[int] = -1,
        drop_path_rate: float = 0.0,
        patch_dropout: float = 0.0,
        frozen_stages: int = -1,
        freeze_patch_embed: bool = False,
        with_cp: bool = False,
        window_size: int = 0,
        global_blocks: Sequence[int] | None = None,
        norm_outputs: str = 'last',
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(
            Architecture(
                *parse_arch(arch),
                act=act,
                img_size=img_size,
                patch_size=patch_size,
                norm_eps=norm_eps,
                pool=pool,
                patch_bias=True,
            ),
            out_type=out_type,
            out_indices=out_indices,
            drop_path_rate=drop_path_rate,
            patch_dropout=patch_dropout,
            frozen_stages=frozen_stages,
            freeze_patch_embed=freeze_patch_embed,
            with_cp=with_cp,
            init_cfg=init_cfg,
            window_size=window_size,
            global_blocks=global_blocks,
            norm_outputs=norm_outputs,
        )

    def _build_tail(self) -> None:
        check_choice('pool', self.arch.pool, POOLS)
        self.pool = self.arch.pool
        self.ln1 = nn.LayerNorm(self.width, eps=self.arch.norm_eps)
        self.ln1.requires_grad_(self.norm_outputs == 'last')
        self.attn_pool: nn.Module | None = None
        if self.pool == 'attention':
            self.attn_pool = _attention_pool(self.arch)
            self.attn_pool.requires_grad_(self.out_type == 'pooled')

    def _output(self, x: Tensor, grid: Grid, block: int) -> Tensor:
        last = block == self.depth - 1
        x = self._norm_of(block)(x)
        if self.out_type == 'pooled' and last and self.attn_pool is not None:
            return self.attn_pool(x)
        if self.out_type in ('pooled', 'avg_featmap'):
            return x.mean(dim=1)
        return to_map(x, grid) if self.out_type == 'featmap' else x


def _attention_pool(arch: Architecture) -> nn.Module:
    from timm.layers import AttentionPoolLatent

    pool = AttentionPoolLatent(
        arch.width,
        num_heads=arch.num_heads,
        # timm rounds width * mlp_ratio down.
        mlp_ratio=(arch.mlp_width + 0.5) / arch.width,
        norm_layer=partial(nn.LayerNorm, eps=arch.norm_eps),  # type: ignore[arg-type]
        act_layer=ACTS[arch.act],  # type: ignore[arg-type]
    )
    # mmengine would call its init_weights after the backbone's init_cfg.
    pool.is_init = True  # type: ignore[assignment]
    return pool
