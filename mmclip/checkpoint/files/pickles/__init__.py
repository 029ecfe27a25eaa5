"""Reading of torch's files, whose pickles run nothing here.

``torch_files.py`` finds the pickle and the storages in a file,
``unpickler.py`` follows the pickle, and ``allow_list.py`` names what may stand
in it.
"""
