"""The web service: a photo in, a superclass out. Needs no torch."""

__version__ = "0.1.0"
