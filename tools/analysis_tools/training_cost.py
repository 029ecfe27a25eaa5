"""Count what training runs cost, and print a Markdown table of it."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.cost', run_name='__main__')
