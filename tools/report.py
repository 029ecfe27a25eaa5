"""Another way to type ``mmclip report``."""

import sys

from mmclip.commands.report import main

if __name__ == '__main__':
    sys.exit(main())
