"""The parent's side: start workers one at a time, wait in the kernel, type every ending, put it on disk."""
