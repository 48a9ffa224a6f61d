"""What the benchmarks share: loads, peers, clients, and the table of figures."""
