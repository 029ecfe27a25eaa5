"""Another way to type ``mmclip zoo``."""

import sys

from mmclip.commands.zoo import main

if __name__ == '__main__':
    sys.exit(main())
