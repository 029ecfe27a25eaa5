"""Test a model: the options of mmpretrain's tools/test.py."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.test', run_name='__main__')
