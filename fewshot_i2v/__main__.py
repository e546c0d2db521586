"""`python -m fewshot_i2v` is `fewshot-i2v`."""

from __future__ import annotations

from fewshot_i2v.cli import main

if __name__ == "__main__":
    main()
