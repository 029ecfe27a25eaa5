"""Another way to type ``mmclip train``."""

import sys

from mmclip.commands.train import main

if __name__ == '__main__':
    sys.exit(main())
