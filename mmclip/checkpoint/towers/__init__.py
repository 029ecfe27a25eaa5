"""Image towers of other libraries: from each of them to ours, and back.

``open_clip.py``, ``timm.py`` and ``hugging_face.py`` know one library each, in
both directions: ``X_source`` says what a tower is there and reads its weights,
``to_X`` gives ours its form. ``dialects.py`` has the tables of names, and
``convert.py`` applies them. A new library is a table and a file like these,
and a line in ``sources.py`` (whose name it is) and ``export.py`` (``--to``).
"""
