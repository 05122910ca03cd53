"""`python -m service` serves, as `superbin serve` does."""

import sys

from service.cli import main

if __name__ == "__main__":
    main(["serve", *sys.argv[1:]])
