"""The data set of verified adversarial examples: written from a log, read back with the user's own images.

`exporting` writes, `loading` reads, `checking` compares one with a log; ADR 20 says why it has this form.
"""
