"""What records of a run show: classes, calibration, gains, generalisation."""
