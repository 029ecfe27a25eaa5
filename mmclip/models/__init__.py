"""Backbones for CLIP's image encoders (towers), and what goes around them."""

from typing import TYPE_CHECKING

from mmclip.post_import import names_of

if TYPE_CHECKING:
    from mmclip.models.public import *  # noqa: F403

__getattr__ = names_of(__name__)
