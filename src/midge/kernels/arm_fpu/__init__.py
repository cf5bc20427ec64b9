"""Instructions for Cortex-M cores with a single-precision FPU."""
