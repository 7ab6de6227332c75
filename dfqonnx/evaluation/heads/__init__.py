"""Heads of detectors: from a network's outputs to boxes, each found by name or by shape."""
