"""Backbones: what the tasks share."""
