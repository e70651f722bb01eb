"""The gRPC edge: the only part of the service that knows protobuf and gRPC."""
