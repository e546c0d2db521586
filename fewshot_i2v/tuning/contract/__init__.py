"""What every adapter and head promises, as checks: for the tests and for `check-adapter`."""
