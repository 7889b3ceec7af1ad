"""`python -m pytest_perfq.cli` is `perfq`."""

from pytest_perfq.cli import main

if __name__ == "__main__":
    main()
