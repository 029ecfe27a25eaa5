"""Another way to type ``mmclip flops``."""

import sys

from mmclip.commands.flops import main

if __name__ == '__main__':
    sys.exit(main())
