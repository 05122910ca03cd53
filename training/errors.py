"""Errors of the training side, all meant to be read by a user."""

from service.errors import SuperbinError


class ConfigError(SuperbinError):
    """An experiment record that cannot be run as it stands."""


class DataError(SuperbinError):
    """A dataset folder that is not in the documented form, or too little of it is usable."""


class RunError(SuperbinError):
    """A run folder that cannot be used for what was asked."""


class ExportError(SuperbinError):
    """A bundle that would not answer as the checkpoint does, and so was not written."""
