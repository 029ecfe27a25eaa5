"""mmclip: CLIP's image towers in the whole OpenMMLab ecosystem."""

from mmclip.requirements import check
from mmclip.version import __version__

__all__ = ['__version__']

check()
del check

# After the check, since it imports what that is about.
from mmclip.zoo import register_models  # noqa: E402

register_models()
del register_models
