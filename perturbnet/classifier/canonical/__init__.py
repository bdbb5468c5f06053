"""Canonical inference: a model as a file of integers, and engines that give its logits to the last bit."""
