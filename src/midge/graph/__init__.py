"""The graph IR: operators on named tensors; its text form, verifier and NumPy evaluation."""
