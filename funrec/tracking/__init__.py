"""Experiment trackers, one module each: what `funrec.experiment.tracking` tells of a run goes here."""
