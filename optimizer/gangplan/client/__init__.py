"""What a pipeline author calls."""
