"""The port to a cluster, its adapter, and what is known of Kubernetes objects. It knows nothing of policies or repositories."""
