"""Another way to type ``mmclip model-page``."""

import sys

from mmclip.commands.model_page import main

if __name__ == '__main__':
    sys.exit(main())
