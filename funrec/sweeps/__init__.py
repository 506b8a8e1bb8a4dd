"""Many jobs: planned, run in processes, reported, resumed."""
