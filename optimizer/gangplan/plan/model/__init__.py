"""The stochastic program, stated in Pyomo."""
