"""Another way to type ``mmclip robustness``."""

import sys

from mmclip.commands.robustness import main

if __name__ == '__main__':
    sys.exit(main())
