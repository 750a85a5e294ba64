"""The digits: MNIST, found, verified or downloaded, or procedural ones for a machine that cannot get it.

The command line asks `resolve` once which digits a run uses; each worker then calls `load` with the answer and gets
verified uint8 arrays. Nothing here prints or reads an environment variable, and numpy is the only heavy import.
"""

from cnnbench.data.dataset import (
    Dataset,
    MnistDirectory,
    Origin,
    ResolvedData,
    default_cache_dir,
    find,
    load,
    read_decompressed,
    resolve,
    write_decompressed,
)
from cnnbench.data.download import DataUnavailableError, fetch

__all__ = [
    "DataUnavailableError",
    "Dataset",
    "MnistDirectory",
    "Origin",
    "ResolvedData",
    "default_cache_dir",
    "fetch",
    "find",
    "load",
    "read_decompressed",
    "resolve",
    "write_decompressed",
]
