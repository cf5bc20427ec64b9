"""Tries kernels in the emulator and remembers what they cost."""
