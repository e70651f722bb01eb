"""The shim: all of the gateway that faces outward.

Its processes: the `supervisor` holds the sockets, keeps the `workers` and drains the host's `journal`; each `worker`
takes requests. `alone.open_shim` is one worker and the drainer in one event loop.

How a message flows: `webhook` reads a request -> `intake` decides -> `authorization` against the `replica` ->
`translation` -> `batching` -> `link` -> the service. On the way back `answers` says what the provider reads.
"""

import os

# gRPC's core would write lines of its own to stderr, which are no JSON. It reads this when grpc is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
