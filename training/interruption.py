"""What ends a training run that was asked to stop."""

from __future__ import annotations


class Interrupted(Exception):
    """Training was asked to stop, and has saved where it was."""
