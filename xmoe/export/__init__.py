"""A run -> a folder that answers without torch: graphs in ONNX, decisions in JSON, and a reader.

``graphs`` makes the ONNX files, ``tables`` what else the reader needs, ``folder`` writes it all.
The reader is a package of its own, ``xmoe_lite``, and is copied beside them.
"""
