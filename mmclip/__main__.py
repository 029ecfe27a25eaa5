"""``python -m mmclip`` is the command ``mmclip``."""

import sys

from mmclip.cli import main

if __name__ == '__main__':
    sys.exit(main())
