"""A wire to the line: what happens on a decision of a run."""
