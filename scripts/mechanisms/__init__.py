"""Data on which a mechanism of a model must show, one module per kind of part."""
