"""What the process of a worker runs: `python -m shim.worker_main`, as `worker_child` starts it."""

import socket
import sys

from shim.memory import loading


def main() -> None:
    """Run as a supervisor's child: the one argument is the line to it."""
    with loading():
        from shim.worker_life import run
    sys.exit(run(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
