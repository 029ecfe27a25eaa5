"""Say what a file of CLIP weights is, and what would not load."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.inspect', run_name='__main__')
