"""Average several fine-tuned models (model soups)."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.soup', run_name='__main__')
