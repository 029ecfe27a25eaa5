"""Image encoders (towers) of other libraries, converted to ours and back.

``open_clip.py``, ``timm.py`` and ``hugging_face.py`` each know one library, in
both directions: ``X_source`` describes its tower and reads the weights,
``to_X`` exports ours to it. ``dialects.py`` has the tables of names, and
``convert.py`` applies them. To add a library, write a table and a file like
these, and add a line to ``sources.py`` (which library a name belongs to) and
to ``export.py`` (``--to``).
"""
