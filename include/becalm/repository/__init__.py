"""A restic repository of format version 2: written, read, leased and pruned. It sees the storage port and nothing else."""
