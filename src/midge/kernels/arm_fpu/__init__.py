"""Instructions for Cortex-M cores with a single-precision FPU."""

from midge.lower.candidates import FAMILIES, Family

FAMILIES.add("arm_fpu", Family(frozenset({"fpu"}), 20))
