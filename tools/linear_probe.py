"""Probe a tower: logistic regression and nearest neighbours."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.probe', run_name='__main__')
