"""Merge the weights of LoRA into those that they update."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.merge_lora', run_name='__main__')
