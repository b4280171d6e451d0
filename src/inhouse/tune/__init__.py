"""Training: a recipe, a loss, an optimiser, a loop, and checkpoints that survive anything."""
