"""Another way to type ``mmclip zero-shot``."""

import sys

from mmclip.commands.zero_shot import main

if __name__ == '__main__':
    sys.exit(main())
