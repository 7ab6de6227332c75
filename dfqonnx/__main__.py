"""`python -m dfqonnx` is `dfqonnx`."""

from dfqonnx.cli.app import main

if __name__ == "__main__":
    main()
