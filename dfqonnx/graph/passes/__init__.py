"""Normalizing passes: one per file, each a function `ir.Model -> PassResult`.

Contract of every pass: it edits the model in place, never changes what the graph computes (but for
float rounding), keeps graph inputs and the names of graph outputs, never alters an initializer that
another node still reads, and may leave unused nodes and initializers behind.

`opset_upgrade` and `deprecated_ops` are no passes: they work on the file's protobuf message.
"""
