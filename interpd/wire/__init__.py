"""The wire: interpd.v1 messages to and from the domain's dataclasses, and errors to and from gRPC status."""
