"""Intervention graphs as data, their types, rules and checker. Light: no torch, no grpc."""
