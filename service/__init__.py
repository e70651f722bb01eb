"""The gateway's service: gRPC, channel directory, routing, store and feed.

How a message flows: `rpc.ingest` -> `ingest` -> `routing` -> `store` -> `feed` -> `rpc.feed`.
"""
