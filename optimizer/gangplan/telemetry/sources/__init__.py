"""Where telemetry comes from, one file each."""
