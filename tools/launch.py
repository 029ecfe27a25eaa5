"""Another way to type ``mmclip launch``."""

import sys

from mmclip.commands.launch import main

if __name__ == '__main__':
    sys.exit(main())
