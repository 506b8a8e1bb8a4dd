"""Search a space of configurations with Optuna: every trial is an ordinary run, and the study a folder of them."""
