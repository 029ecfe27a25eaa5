"""Another way to type ``mmclip probe``."""

import sys

from mmclip.commands.probe import main

if __name__ == '__main__':
    sys.exit(main())
