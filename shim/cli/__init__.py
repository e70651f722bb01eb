"""The operator's command `mo`: one module a noun, gRPC to the service, HTTP for `send` only.

stdout carries nothing but the data; everything for the eyes alone goes to stderr.
"""
