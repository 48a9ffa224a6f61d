"""The Kubernetes objects of a reservation on Kueue."""
