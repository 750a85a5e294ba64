"""The module name by which every revision so far starts an arm's worker; the code is in `paired_worker`.

A check starts the workers of two revisions by one module name, and revisions before the rename know only this one.
"""

from __future__ import annotations

from cnnbench.engine.paired_worker import main

if __name__ == "__main__":
    main()
