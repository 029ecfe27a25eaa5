"""Another way to type ``mmclip bench gpu``."""

import sys

from mmclip.commands.bench import main

if __name__ == '__main__':
    sys.exit(main(['gpu', *sys.argv[1:]]))
