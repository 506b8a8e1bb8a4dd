"""Training: the loop, its optimizers and its checkpoints."""
