"""`python -m lookaround`: what torchrun starts."""

from lookaround.cli import main

if __name__ == "__main__":
    main()
