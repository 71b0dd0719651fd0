"""What the command line does, one command a file. Nothing here knows how its settings were composed."""
