"""Schedules in plain C, for every CPU."""

from midge.lower.candidates import FAMILIES, Family

FAMILIES.add("generic", Family(frozenset(), 90))
