"""Random models, options that cover each other in pairs, and what must hold for all of them."""
