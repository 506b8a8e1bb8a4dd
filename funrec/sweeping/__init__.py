"""What a sweep is on disk: its plan, its jobs, what became of them. Nothing here knows Hydra."""
