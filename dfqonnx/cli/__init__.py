"""The command line: one module per command; it parses, calls the library and shows what came back.

Imports of rooms that bring torch, onnx or ONNX Runtime stand inside the commands, so that
`dfqonnx --help` answers at once; this is the only room where an import may stand in a function.
"""
