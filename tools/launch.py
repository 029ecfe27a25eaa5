"""torchrun that hands signals on, and says last of all why a run died."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.launch', run_name='__main__')
