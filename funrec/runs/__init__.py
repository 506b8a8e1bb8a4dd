"""Run folders, their records and the tables printed of them."""
