"""Where the processes that we start keep their bytecode, on a machine that wants none in the tree."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parent.parent / ".pytest_cache" / "bytecode"


def keep_bytecode() -> None:
    """Let what is started from now on keep its bytecode, as an installed package does.

    Compiling is half of what a start costs, and we start hundreds of processes. Who wants no bytecode in the tree
    gets none: it is kept with what pytest keeps, for all processes of this run and for the next run.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ.setdefault("PYTHONPYCACHEPREFIX", str(_FOLDER))
