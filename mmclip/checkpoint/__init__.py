"""Checkpoints: reading, converting, loading and exporting CLIP weights."""

from typing import TYPE_CHECKING

from mmclip.post_import import names_of

if TYPE_CHECKING:
    from mmclip.checkpoint.public import *  # noqa: F403

__getattr__ = names_of(__name__)
