"""One score from many heads: formulas searched on some rows, reported on others, and estimated from logged choices."""
