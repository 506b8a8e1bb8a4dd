"""Faults injected from outside into the installed `funrec` command, and whether it survives them."""
