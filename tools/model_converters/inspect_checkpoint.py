"""Another way to type ``mmclip inspect``."""

import sys

from mmclip.commands.inspect import main

if __name__ == '__main__':
    sys.exit(main())
