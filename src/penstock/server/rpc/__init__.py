"""The Open Inference Protocol V2 over gRPC; the only home of grpc and protobuf on the serving path."""

from penstock.server.rpc.open import GrpcServer, grpc_server

__all__ = ["GrpcServer", "grpc_server"]
