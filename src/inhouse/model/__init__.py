"""Our decoder and its weights: one forward pass for training and serving."""
