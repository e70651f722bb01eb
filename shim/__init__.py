"""The shim: all of the gateway that faces outward.

How a message flows: `webhook` reads a request -> `intake` decides -> `authorization` against the `replica` ->
`translation` -> `batching` -> `link` -> the service. On the way back `answers` says what the provider reads.
"""
