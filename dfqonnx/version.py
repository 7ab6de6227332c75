"""The version, in one place that every room may import."""

__version__ = "0.2.0"
