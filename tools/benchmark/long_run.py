"""Another way to type ``mmclip long-run``."""

import sys

from mmclip.commands.long_run import main

if __name__ == '__main__':
    sys.exit(main())
