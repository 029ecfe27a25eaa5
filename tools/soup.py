"""Another way to type ``mmclip soup``."""

import sys

from mmclip.commands.soup import main

if __name__ == '__main__':
    sys.exit(main())
