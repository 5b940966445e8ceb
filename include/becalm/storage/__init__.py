"""The port to a bucket and its adapters. It knows nothing of packs, points or policies."""
