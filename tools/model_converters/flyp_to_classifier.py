"""Another way to type ``mmclip flyp-to-classifier``."""

import sys

from mmclip.commands.flyp_to_classifier import main

if __name__ == '__main__':
    sys.exit(main())
