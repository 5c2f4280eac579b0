"""`python -m rutile`: the command line where the console script is not on the path."""

from rutile.cli.main import entry

if __name__ == "__main__":
    entry()
