"""The Open Inference Protocol v2 over gRPC: optional, on a port of its own.

Only `start` may be imported where the extra `grpc` is missing.
"""
