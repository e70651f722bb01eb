"""The gRPC edge: the only part of the service that knows protobuf and gRPC."""

import os

# gRPC's own lines on stderr are no JSON, and say nothing that ours don't. It reads this when it is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
