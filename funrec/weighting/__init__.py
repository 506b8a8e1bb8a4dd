"""Loss weighting: from what a step knows to one weight per task."""
