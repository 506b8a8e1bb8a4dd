"""Models: a backbone times a funnel, with towers between."""
