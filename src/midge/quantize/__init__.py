"""Float graphs to integer graphs that follow TFLite's quantisation specification.

prepare -> calibrate -> scheme (which type each value gets) -> rewrite. `mixed` and `report` try
and judge results; `halves` is the other way to a smaller model: float16 weights.
"""
