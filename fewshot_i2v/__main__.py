"""`python -m fewshot_i2v` is `fewshot-i2v`.

What Python itself imports before it comes here may be from the current folder, which it puts first;
the command, and `python -P -m fewshot_i2v`, take nothing from there.
"""

import sys

from fewshot_i2v.utils.search_path import without_current_folder

if __name__ == "__main__":
    sys.path[:] = without_current_folder()
    from fewshot_i2v.cli import main

    main()
