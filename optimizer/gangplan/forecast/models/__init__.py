"""The models that predict demand."""
