"""The gRPC edge: proto to domain, deadlines, errors to Status."""
