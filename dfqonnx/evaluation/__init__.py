"""Validation room: what the exported file is worth, measured in the runtime itself.

The only room that imports ONNX Runtime, and it does so inside `session.py` when a session is made.
Modules here take files and arrays and return frozen values; nothing is printed.
"""
