"""A cluster with Kueue, Karpenter and KWOK, gangs that ask all the time, and who looks whether each has its nodes."""
