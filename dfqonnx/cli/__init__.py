"""The command line, with one module per command: it parses, calls the library, shows the result.

Imports of rooms that bring torch, onnx or ONNX Runtime stand inside the commands, so that
`dfqonnx --help` answers at once; this is the only room where an import may stand in a function.
"""
