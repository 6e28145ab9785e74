"""Load, comparisons and figures."""
