"""The load of Kueue's own performance tests: its gangs, the floor of any scheduler, and the clients that play it."""
