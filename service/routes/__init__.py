"""HTTP in and out, one file per family of routes."""
