"""Train a model: the options of mmpretrain's tools/train.py."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.train', run_name='__main__')
