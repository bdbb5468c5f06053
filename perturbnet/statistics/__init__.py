"""Counts and their intervals: how often a model was fooled, and how sure one can be of it."""
