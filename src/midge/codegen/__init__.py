"""Programs to C: the emitter, the weights, and the package folder around them."""
