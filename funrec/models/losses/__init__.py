"""Losses: what a task's predictions are compared with its labels by."""
