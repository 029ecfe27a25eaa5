"""Count the parameters and multiply-accumulates of a config's model."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.flops', run_name='__main__')
