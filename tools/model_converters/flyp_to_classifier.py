"""Make an ordinary zero-shot classifier of a model that was tuned by FLYP."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.flyp_to_classifier', run_name='__main__')
