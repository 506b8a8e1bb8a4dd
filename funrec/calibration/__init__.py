"""Probabilities that mean what they say: maps from scores to log odds, fitted after training on rows of their own."""
