"""Test the weights between a zero-shot and a fine-tuned model (WiSE-FT)."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.interpolate', run_name='__main__')
