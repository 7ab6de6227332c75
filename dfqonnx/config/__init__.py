"""What a person writes: the configuration of a command, and recipes.

Letters used for shapes everywhere: N batch, C channels, H W height and width, O I output and input
channels of a weight, K classes.
"""
