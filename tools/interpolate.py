"""Another way to type ``mmclip interpolate``."""

import sys

from mmclip.commands.interpolate import main

if __name__ == '__main__':
    sys.exit(main())
