"""ONNX to differentiable torch: a program of operator calls, and a module built from it.

NormalizedModel --to_program--> Program --ProgramModule(program)--> a torch module
"""
