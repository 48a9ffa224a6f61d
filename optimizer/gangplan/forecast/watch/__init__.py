"""When the world has changed: drift, spikes, and the correction of the next hours."""
