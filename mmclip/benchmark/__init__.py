"""Ours beside its peers: the same work, compared, then timed in turn.

A case is one piece of work, and its entries are those who do it. To add a
peer, add a function to a table: ``PEERS`` in models.py (a tower), ``PEERS`` in
pipelines.py (an image file to a tensor) or the entries of a case in
programs.py (a command line). To add a kind of case, write a function that
yields cases, and name it in ``KINDS`` of ``mmclip/commands/bench.py``.
"""
