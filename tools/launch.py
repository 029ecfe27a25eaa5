"""torchrun that hands signals on."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.launch', run_name='__main__')
