"""CLIP's image tower: a vision transformer with a norm before its blocks.

Paper: Learning Transferable Visual Models From Natural Language Supervision
(https://arxiv.org/abs/2103.00020). It computes the same as
``VisionTransformer`` in ``open_clip/transformer.py``.

Shapes: B batch, N patches, C channels (the width), D width of the joint space,
H W patch grid.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmclip.errors import check_choice
from mmclip.models.architecture import Architecture, parse_arch
from mmclip.models.dense import DENSE
from mmclip.models.vit import VisionTransformer, to_map
from mmclip.pos_embed import Grid
from mmclip.registry import MODELS

POOLS = ('cls_token', 'avg', 'attention')


@MODELS.register_module()
class CLIPVisionTransformer(VisionTransformer):
    """CLIP's vision transformer as an OpenMMLab backbone.

    Args:
        arch (str | dict): A preset (``'small'``, ``'medium'``, ``'base'``,
            ``'base-plus'``, ``'large'``, ``'so400m'``, ``'huge'``,
            ``'giant'``, ``'giant-opt'``, ``'gigantic'``, ``'enormous'``;
            ``s m b l h g`` for short), or the numbers
            ``dict(width=, depth=, num_heads=, mlp_width=)``.
        act (str): ``'gelu'``, ``'quick_gelu'`` or ``'gelu_tanh'``. There is
            no default, because it belongs to the weights and their name does
            not reveal it (all weights with the tag ``openai`` use
            ``'quick_gelu'``).
        img_size (int | tuple[int, int]): Image height and width in pixels
            that the position embedding is made for. Defaults to 224.
        patch_size (int): Patch height and width in pixels. Defaults to 16.
        norm_eps (float): Epsilon of every LayerNorm. Defaults to 1e-5, as in
            all of open_clip's own towers.
        pre_norm (bool): Whether there is a norm before the first block; CLIPA
            (https://arxiv.org/abs/2305.07017) has none. Defaults to True.
        pool (str): How the tower was trained to pool an image into a vector:

            - ``'cls_token'``: the final norm, then the class token.
            - ``'avg'``: the mean of the patches, then the final norm (CLIPA).
            - ``'attention'``: CoCa's attentional pooler (256 queries, 8
              heads), then the norm, then the first query
              (https://arxiv.org/abs/2205.01917); needs ``proj_dim``.
        layer_scale_init (float | None): Initial value of LayerScale
            (https://arxiv.org/abs/2103.17239); None for blocks without it.
        proj_dim (int | None): Width D of CLIP's joint space, into which a
            linear layer projects after the final norm; None for no
            projection.
        proj_bias (bool): Whether that projection has a bias, as in
            MobileCLIP2-L-14. Defaults to False.
        out_type (str): What to return for each index of ``out_indices``:

            - ``'pooled'``: one vector, pooled by ``pool``, ``(B, C)``.
            - ``'avg_featmap'``: the mean of the patch tokens after the final
              norm, ``(B, C)``.
            - ``'raw'``: all tokens, class token first, ``(B, 1 + N, C)``.
            - ``'featmap'``: the patch tokens as a map, ``(B, C, H, W)``.
        out_indices (int | Sequence[int]): Blocks whose output is returned, in
            increasing order; negative numbers count from the end. The final
            norm and, with ``proj_dim``, the projection (C becomes D) are
            applied to the last block's output; with ``pool='attention'``
            only if it is pooled. Blocks after the last index exist, so that
            whole checkpoints load, but are neither run nor trained. Defaults
            to -1.
        drop_path_rate (float): Stochastic depth rate of the last block,
            rising linearly from 0 in the first. Defaults to 0.
        patch_dropout (float): Fraction of each image's patches to drop in
            training (https://arxiv.org/abs/2212.00794). Defaults to 0.
        frozen_stages (int): -1 freezes nothing, 0 the stem (patch embedding,
            class token, position embedding, pre-norm), n also the first n
            blocks; the depth freezes everything. Defaults to -1.
        freeze_patch_embed (bool): Freeze the patch embedding only, as FT-CLIP
            (https://arxiv.org/abs/2212.06138) does. Defaults to False.
        with_cp (bool): Recompute the blocks' activations in the backward pass
            to save memory. Defaults to False.
        window_size (int): Rows and columns of the windows of patches to which
            attention is confined, for large images; 0 for none. The class
            token attends to all patches, and all to it, so that a window that
            holds the image changes nothing. Defaults to 0.
        global_blocks (Sequence[int] | None): With windows, the blocks whose
            attention has none; negative numbers count from the end. None for
            the last of each quarter, as in ViTDet
            (https://arxiv.org/abs/2203.16527). Defaults to None.
        norm_outputs (str): What of ``'featmap'`` and ``'raw'`` is normalised:
            ``'last'``: only the last block's output, by the final norm;
            ``'each'``: every output by a new norm of its own,
            ``out_norms``, which no checkpoint has (``fresh=['out_norms']`` in
            ``init_cfg``); ``'none'``. Defaults to ``'last'``.
        output_cls_token (bool): With ``'featmap'``, whether each output is a
            pair: the map, and the class token ``(B, C)``, normalised and
            projected as the map is. Defaults to False.
        dense (str | None): With ``'featmap'`` and the last block, how its
            patches are kept apart for zero-shot segmentation:
            ``'maskclip'`` (https://arxiv.org/abs/2112.01071), ``'sclip'``
            (https://arxiv.org/abs/2312.01597) or ``'clearclip'``
            (https://arxiv.org/abs/2407.12442). Defaults to None: as CLIP was
            trained.
        init_cfg (dict | list[dict] | None): Where the weights come from,
            usually ``dict(type='mmclip.PretrainedCLIP', checkpoint=...)``.
            None keeps the random initialisation.

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
        norm_eps: float = 1e-5,
        pre_norm: bool = True,
        pool: str = 'cls_token',
        layer_scale_init: float | None = None,
        proj_dim: int | None = None,
        proj_bias: bool = False,
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
        output_cls_token: bool = False,
        dense: str | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        if dense is not None:
            check_choice('dense', dense, DENSE)
        self.output_cls_token, self.dense = output_cls_token, dense
        super().__init__(
            Architecture(
                *parse_arch(arch),
                act=act,
                img_size=img_size,
                patch_size=patch_size,
                norm_eps=norm_eps,
                pool=pool,
                class_token=True,
                pre_norm=pre_norm,
                layer_scale_init=layer_scale_init,
                proj_dim=proj_dim,
                proj_bias=proj_bias,
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
            last_layer=DENSE[dense] if dense else None,
        )
        for name, value in dict(
            output_cls_token=output_cls_token, dense=dense
        ).items():
            if value and out_type != 'featmap':
                raise ValueError(
                    f"{name} needs out_type='featmap', got {out_type!r}."
                )
        if not dense:
            return
        if self.out_indices[-1] != self.depth - 1:
            raise ValueError(
                'dense changes the last block, which out_indices '
                f'{out_indices} leaves out.'
            )
        if self.depth - 1 not in self.global_blocks or pool == 'attention':
            raise ValueError(
                'dense needs a last block without windows, and a pool other '
                "than 'attention'."
            )

    def _build_tail(self) -> None:
        arch = self.arch
        check_choice('pool', arch.pool, POOLS)
        self.pool = arch.pool
        pooled_width = self.width
        self.attn_pool: nn.Module | None = None
        if self.pool == 'attention':
            pooled_width = self._check_attention_pool()
            self.attn_pool = _attentional_pooler(
                pooled_width, self.width, arch.norm_eps
            )
        self.ln1 = nn.LayerNorm(pooled_width, eps=arch.norm_eps)
        self.proj = self.proj_bias = None
        if arch.proj_dim is not None:
            self.proj = nn.Parameter(torch.empty(pooled_width, arch.proj_dim))
            if arch.proj_bias:
                self.proj_bias = nn.Parameter(torch.zeros(arch.proj_dim))
        for part in (self.ln1, self.attn_pool, self.proj, self.proj_bias):
            if part is not None:
                part.requires_grad_(self._uses_tail())

    def _check_attention_pool(self) -> int:
        if self.arch.proj_dim is None:
            raise ValueError(
                "pool='attention' needs proj_dim: CoCa's pooler works in the "
                'joint space.'
            )
        if self.out_type == 'pooled' and self.out_indices != (self.depth - 1,):
            raise ValueError(
                "pool='attention' pools the last block only; with "
                "out_type='pooled' out_indices must be -1, got "
                f'{self.out_indices}.'
            )
        return self.arch.proj_dim

    def _needs_all_tokens(self) -> bool:
        return self.out_type != 'pooled' or self.pool != 'cls_token'

    def _output(self, x: Tensor, grid: Grid, block: int) -> Any:
        if self.out_type == 'pooled':
            x = self._pool(x)
        with_tail = block == self.depth - 1 and self._uses_tail()
        if with_tail or self.norm_outputs == 'each':
            x = self._norm_of(block)(x)
        if self.out_type == 'avg_featmap':
            x = x[:, 1:].mean(dim=1)
        if with_tail:
            x = self._project(x)
        if self.out_type != 'featmap':
            return x
        patches = to_map(x[:, 1:], grid)
        return (patches, x[:, 0]) if self.output_cls_token else patches

    def _pool(self, x: Tensor) -> Tensor:
        """Pool ``(B, 1 + N, C)`` to ``(B, C)``, or ``(B, D)`` by attention."""
        if self.attn_pool is not None:
            return self.attn_pool(x)[:, 0]
        return x[:, 0] if self.pool == 'cls_token' else x[:, 1:].mean(dim=1)

    def _project(self, x: Tensor) -> Tensor:
        if self.proj is not None:
            x = x @ self.proj
        return x if self.proj_bias is None else x + self.proj_bias

    def _uses_tail(self) -> bool:
        # CoCa's norm is as wide as its queries, not as its patches.
        if self.norm_outputs != 'last':
            return False
        return self.pool != 'attention' or self.out_type == 'pooled'

    def reset_parameters(self) -> None:
        """Draw random weights as CLIP does, including the projection's."""
        super().reset_parameters()
        if self.proj is not None:
            nn.init.normal_(self.proj, std=self.width**-0.5)

    def architecture(self) -> dict[str, Any]:
        """Return the arguments that define this backbone."""
        arch = self.arch
        arguments = super().architecture() | dict(pre_norm=arch.pre_norm)
        if self.output_cls_token:
            arguments |= dict(output_cls_token=True)
        if self.dense:
            arguments |= dict(dense=self.dense)
        if arch.layer_scale_init is not None:
            arguments |= dict(layer_scale_init=arch.layer_scale_init)
        if arch.proj_dim is not None:
            arguments |= dict(proj_dim=arch.proj_dim)
            if arch.proj_bias:
                arguments |= dict(proj_bias=True)
        return arguments


def _attentional_pooler(
    width: int, context_width: int, norm_eps: float
) -> nn.Module:
    from open_clip.transformer import AttentionalPooler

    pooler = AttentionalPooler(width, context_width, n_head=8, n_queries=256)
    pooler.ln_q.eps = pooler.ln_k.eps = norm_eps
    return pooler
