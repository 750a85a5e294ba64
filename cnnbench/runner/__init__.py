"""The parent process: it starts workers one at a time, sleeps in the kernel, classifies every ending and writes it to
disk.
"""
