"""open_clip's text encoder (tower), for models that train it."""

import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from mmclip.checkpoint.files.paths import SUFFIXES, files_of, is_local
from mmclip.errors import ConfigError
from mmclip.registry import MODELS


@MODELS.register_module()
class OpenCLIPTextTower(BaseModule):
    """An open_clip model without its image tower.

    Args:
        model (str): An open_clip model name, or a JSON config of open_clip.
        pretrained (str | None): The weights that ``init_weights`` loads: a
            pretrained tag, or a local file of the whole model. Defaults to
            None: random weights.
        tag (str | None): For a local file: the tag whose activation it uses,
            ``'none'`` for the model config's own.

    Raises:
        CheckpointError: If a name or tag is unknown.
        ConfigError: If the model has SigLIP's bias.
    """

    def __init__(
        self, model: str, pretrained: str | None = None, tag: str | None = None
    ):
        super().__init__()
        from mmclip.text.whole_model import build_whole_model

        # The file may be gone by the time a trained checkpoint is tested.
        is_file = pretrained is not None and (
            Path(pretrained).suffix in SUFFIXES or '/' in pretrained
        )
        most = None
        if pretrained is not None and is_local(pretrained):
            # Every number takes at least a byte.
            most = sum(p.stat().st_size for p in files_of(pretrained))
        clip, self.tokenizer = build_whole_model(
            model, tag if is_file or pretrained is None else pretrained, most
        )
        if getattr(clip, 'logit_bias', None) is not None:
            raise ConfigError(
                f'{model} is a SigLIP model, which has another loss; use a '
                'CLIP model.'
            )
        del clip.visual
        self.clip: Any = clip
        self._source = (model, pretrained, tag)

    @property
    def logit_scale(self) -> Tensor:
        """The factor of the cosines."""
        return self.clip.logit_scale.exp()

    def init_weights(self) -> None:
        """Load the weights of ``pretrained``, if any."""
        from mmclip.text.whole_model import load_whole_model

        super().init_weights()
        model, pretrained, tag = self._source
        if pretrained is None:
            print_log(
                'OpenCLIPTextTower has pretrained=None and starts from random '
                'weights, unless a checkpoint of the whole model is loaded.',
                logger='current',
                level=logging.WARNING,
            )
            return
        whole, _ = load_whole_model(model, pretrained, tag)
        del whole.visual
        self.clip.load_state_dict(whole.state_dict())

    def forward(self, texts: list[str]) -> Tensor:
        """Embed texts.

        Args:
            texts (list[str]): B texts.

        Returns:
            Tensor: ``(B, D)``, of length one.
        """
        tokens = self.tokenizer(texts).to(self.clip.logit_scale.device)
        return self.clip.encode_text(tokens, normalize=True)
