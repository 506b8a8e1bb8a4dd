"""What every room uses: errors, files, locks, signals."""
