"""The demo, comparisons and drills behind the make targets; run from a clone, never installed."""
