"""`python -m parley_server`."""

from parley_server.cli import main

if __name__ == "__main__":
    main()
