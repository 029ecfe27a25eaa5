"""Export an mmclip checkpoint to open_clip, timm or Hugging Face."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.export', run_name='__main__')
