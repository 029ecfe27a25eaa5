"""Make a zero-shot classifier of a CLIP model and the names of classes."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.zero_shot', run_name='__main__')
