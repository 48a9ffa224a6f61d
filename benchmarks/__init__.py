"""One file for each headline figure; `make bench-<name>` prints its table and writes .run/bench/<name>.json."""
