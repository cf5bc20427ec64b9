"""Schedules and instructions of Armv7E-M and of Armv8-M with the DSP extension."""

from midge.lower.candidates import FAMILIES, Family

FAMILIES.add("arm_dsp", Family(frozenset({"dsp"}), 10))
