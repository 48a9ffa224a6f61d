"""How good a model is: back-tests, loss, the gate, and the plots of them."""
