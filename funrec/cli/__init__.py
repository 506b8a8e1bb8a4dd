"""One module per subcommand of `funrec`, each with a `main` that takes its arguments and returns an exit code."""
