"""Schedules in plain C, for every CPU."""
