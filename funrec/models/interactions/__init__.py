"""Interactions: how features are crossed before a backbone reads them."""
