"""mmclip: CLIP's image towers in the whole OpenMMLab ecosystem."""

from mmclip.requirements import check
from mmclip.version import __version__

__all__ = ['__version__']

check()
del check

# After the check, since they import what that is about.
from mmclip.multimodal import switch_off_if_broken  # noqa: E402

switch_off_if_broken()  # before anything imports mmpretrain's models
del switch_off_if_broken

# Makes the schemes of checkpoint paths known.
import mmclip.checkpoint  # noqa: E402, F401
from mmclip.zoo import register_models  # noqa: E402

register_models()
del register_models
