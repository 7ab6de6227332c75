"""`python -m dfqonnx` is `dfqonnx`."""

from dfqonnx.cli.start import main

if __name__ == "__main__":
    main()
