"""Image encoders (towers) of other libraries, converted to ours and back.

``open_clip.py``, ``timm.py`` and ``hugging_face.py`` each know one library, in
both directions: ``X_source`` describes its tower and reads the weights,
``to_X`` exports ours to it. ``dialects.py`` has the tables of names, and
``convert.py`` applies them. CONTRIBUTING.md says how to add a library.
"""
