"""Another way to type ``mmclip convert``."""

import sys

from mmclip.commands.convert import main

if __name__ == '__main__':
    sys.exit(main())
