"""Models: manifest, store, verified loading, predictors, micro-batching."""
