"""Fill in the counted numbers of the model page."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.model_page', run_name='__main__')
