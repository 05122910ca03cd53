"""Training of superclass models: data, SCLRE and its baseline, evaluation, calibration, export."""
