"""Write the table of open_clip's image towers and their metafile rows."""

import runpy

if __name__ == '__main__':
    runpy.run_module('mmclip.commands.zoo', run_name='__main__')
