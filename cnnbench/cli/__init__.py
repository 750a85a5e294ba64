"""The command line, one file a group of commands: reads the environment, prints, catches, exits. Nothing else does."""
