"""What an exported file is worth, measured in the runtime that it is for.

Modules here take files and arrays and return frozen values; nothing is printed.
"""
