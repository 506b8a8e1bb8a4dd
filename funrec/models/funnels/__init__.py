"""Funnels: how the tasks' probabilities depend on each other."""
