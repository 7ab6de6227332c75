"""Other runtimes than the one that dfqonnx itself works with, each in a process of its own."""
