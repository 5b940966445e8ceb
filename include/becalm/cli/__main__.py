"""`python -m becalm.cli`: the command line, where no script was installed."""

from becalm.cli import main

main()
