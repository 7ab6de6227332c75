"""Leaf room: the frozen values that the other rooms exchange.

Letters used for shapes everywhere: N batch, C channels, H W height and width, O I output and input
channels of a weight, K classes.
"""
