"""Damaged model files: what they are made of, how they are damaged, what Midge makes of them."""
