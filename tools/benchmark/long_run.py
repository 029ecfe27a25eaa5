"""Train a tiny model for long; print memory, open files and logging time."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.long_run', run_name='__main__')
