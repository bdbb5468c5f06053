"""The version of this software, where every room can name it without importing the public names."""

__version__ = "0.1.0"
