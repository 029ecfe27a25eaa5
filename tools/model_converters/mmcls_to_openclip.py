"""Another way to type ``mmclip export``."""

import sys

from mmclip.commands.export import main

if __name__ == '__main__':
    sys.exit(main())
