"""Another way to type ``mmclip cost``."""

import sys

from mmclip.commands.cost import main

if __name__ == '__main__':
    sys.exit(main())
