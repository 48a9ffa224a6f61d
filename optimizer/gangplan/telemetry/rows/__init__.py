"""What a row of telemetry must be, and how files of rows are read."""
