"""The version, apart from the package so that no module imports the package to know it."""

__version__ = "0.1.0"
