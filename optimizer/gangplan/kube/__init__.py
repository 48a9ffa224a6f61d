"""A Kubernetes cluster as gangplan talks to it: plain objects, and watched mirrors of them."""
