"""Schedules and instructions of Armv7E-M and of Armv8-M with the DSP extension."""
