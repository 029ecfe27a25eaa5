"""Evaluate a model on ImageNet and on whatever of its shifts is there."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.robustness', run_name='__main__')
