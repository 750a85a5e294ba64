"""One file per vendor, each with a `BACKEND`: a file put here is found, listed, planned for and attached."""
