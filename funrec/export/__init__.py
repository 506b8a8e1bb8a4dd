"""Trained models for other programs: raw values in, named scores out, compared with the run before they are kept."""
