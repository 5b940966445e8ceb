"""Recovery points by policy, slot and time, read from the bucket alone."""
