"""`python -m gangplan` is the command `gangplan`."""

from gangplan.cli import main

if __name__ == "__main__":
    main()
