"""A cluster for a laptop: a small Kubernetes API server whose pods are processes. It serves the demo and the tests."""
