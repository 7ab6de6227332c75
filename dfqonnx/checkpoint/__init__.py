"""What a run keeps while it works, so that nothing is computed twice."""
