"""mmclip: CLIP's image towers in the whole OpenMMLab ecosystem."""

from mmclip.requirements import check
from mmclip.version import __version__

__all__ = ['__version__']

check()
del check
