"""Another way to type ``mmclip merge-lora``."""

import sys

from mmclip.commands.merge_lora import main

if __name__ == '__main__':
    sys.exit(main())
