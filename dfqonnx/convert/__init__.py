"""ONNX to differentiable torch: a program of steps, and a network built from it.

graph.model.Model --to_program--> Program --Net--> torch module, gradients to its input
"""
