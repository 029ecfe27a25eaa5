"""Another way to type ``mmclip adapt``."""

import sys

from mmclip.commands.adapt import main

if __name__ == '__main__':
    sys.exit(main())
