"""Another way to type ``mmclip test``."""

import sys

from mmclip.commands.test import main

if __name__ == '__main__':
    sys.exit(main())
