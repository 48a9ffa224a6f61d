"""Reserve."""
