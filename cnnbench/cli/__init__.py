"""The command line, one file per group of commands: only it reads the environment, prints, catches and exits."""
