"""`python -m fewshot_i2v` runs `fewshot-i2v`.

Python itself may import from the current folder before this file runs, since it puts that first;
the command, and `python -P -m fewshot_i2v`, take nothing from it.
"""

import sys

from fewshot_i2v.utils.search_path import without_current_folder

if __name__ == "__main__":
    sys.path[:] = without_current_folder()
    from fewshot_i2v.cli import main

    main()
