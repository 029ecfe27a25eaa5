"""Another way to type ``mmclip predict``."""

import sys

from mmclip.commands.predict import main

if __name__ == '__main__':
    sys.exit(main())
