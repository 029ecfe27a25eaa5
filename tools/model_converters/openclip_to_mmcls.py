"""Convert the image tower of a CLIP model for OpenMMLab."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.convert', run_name='__main__')
