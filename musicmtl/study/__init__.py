"""The study layer."""
