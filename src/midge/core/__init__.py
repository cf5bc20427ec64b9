"""The words every layer shares: element types, tensors, errors, registries, packages, targets."""
