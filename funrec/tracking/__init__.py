"""Experiment trackers, one module each: they receive what `funrec.experiment.tracking` reports of a run."""
