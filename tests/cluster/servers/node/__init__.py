"""A real node: containerd and a kubelet on this machine, whose pods really run."""
