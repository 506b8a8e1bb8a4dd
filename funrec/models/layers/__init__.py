"""Layers that models are made of: one fused embedding table, and banks of equal networks."""
